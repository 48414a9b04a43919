//! Where the accounts of a call live. Invariant: asked before a transaction begins, never in one.

mod store;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::federation::{AccountHome, Age, Federation, HomeUnverified};
use crate::types::Did;

pub use store::{find_local, note_server};

/// Accounts that are looked up at one time.
const AT_ONCE: usize = 8;

/// Where each of the accounts lives; what could not be found out, by its own error.
pub type Whereabouts = HashMap<Did, Result<AccountHome, HomeUnverified>>;

/// The other server that an account lives on; nothing for one that lives here, or that names no server at all: such an
/// account is served where it registered.
pub async fn elsewhere(federation: &Federation, account: &Did) -> Result<Option<Did>, HomeUnverified> {
    Ok(match find(federation, account).await? {
        AccountHome::Elsewhere(server) => Some(server),
        AccountHome::Here | AccountHome::Nowhere => None,
    })
}

/// A server that does not federate has no elsewhere.
pub(super) async fn find(federation: &Federation, account: &Did) -> Result<AccountHome, HomeUnverified> {
    if federation.is_on() { federation.home_of(account, Age::First).await } else { Ok(AccountHome::Here) }
}

/// The same for many, so many at a time.
pub async fn locate(federation: &Arc<Federation>, accounts: impl IntoIterator<Item = Did>) -> Whereabouts {
    let (mut found, mut lookups) = (Whereabouts::new(), JoinSet::new());
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    for account in accounts.into_iter().collect::<BTreeSet<_>>() {
        let (federation, slots) = (Arc::clone(federation), Arc::clone(&slots));
        lookups.spawn(async move {
            let _slot = slots.acquire_owned().await;
            let home = find(&federation, &account).await;
            (account, home)
        });
    }
    while let Some(lookup) = lookups.join_next().await {
        // One that ended otherwise found nothing.
        found.extend(lookup.ok());
    }
    found
}
