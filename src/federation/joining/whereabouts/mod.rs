//! Where the accounts of a call live. Invariant: asked before a transaction begins, never in one.

mod store;

use crate::federation::{AccountHome, Age, Federation, HomeUnverified};
use crate::types::Did;

pub use store::find_local;

/// The other server that an account lives on; nothing for one that lives here, or that names no server at all: such an
/// account is served where it registered.
pub async fn elsewhere(federation: &Federation, account: &Did) -> Result<Option<Did>, HomeUnverified> {
    if !federation.is_on() {
        return Ok(None);
    }
    match federation.home_of(account, Age::First).await? {
        AccountHome::Elsewhere(server) => Ok(Some(server)),
        AccountHome::Here | AccountHome::Nowhere => Ok(None),
    }
}
