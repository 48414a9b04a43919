//! Where the accounts of a call live. Invariant: asked before a transaction begins, never in one.

mod store;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::federation::{AccountHome, Age, Federation, HomeUnverified};
use crate::types::Did;

pub use store::find_local;

/// Accounts that are looked up at one time.
const AT_ONCE: usize = 8;

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

/// The same for many, so many at a time.
pub async fn locate(
    federation: &Arc<Federation>,
    accounts: impl IntoIterator<Item = Did>,
) -> HashMap<Did, Result<Option<Did>, HomeUnverified>> {
    let (mut found, mut lookups) = (HashMap::new(), JoinSet::new());
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    for account in accounts.into_iter().collect::<BTreeSet<_>>() {
        let (federation, slots) = (Arc::clone(federation), Arc::clone(&slots));
        lookups.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let server = elsewhere(&federation, &account).await;
            (account, server)
        });
    }
    while let Some(lookup) = lookups.join_next().await {
        // One that ended otherwise found nothing.
        found.extend(lookup.ok());
    }
    found
}
