//! Locations of the accounts that a call names.
//!
//! Invariants: look-ups happen before a transaction begins, never in one; calls of this server's accounts look up no
//! account of this server; every other look-up counts against the calling account.

mod store;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::federation::{AccountHome, Age, Federation, HomeUnverified, TooManyLookups};
use crate::types::Did;

pub use store::{find_local, note_server};

/// Accounts that are looked up at one time.
const AT_ONCE: usize = 8;

/// Where each of the accounts lives; what could not be found out, by its own error.
pub type Whereabouts = HashMap<Did, Result<AccountHome, HomeUnverified>>;

/// Why an account's location is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLocated {
    #[error(transparent)]
    TooManyLookups(#[from] TooManyLookups),
    #[error(transparent)]
    Unverified(#[from] HomeUnverified),
}

/// The other server that an account lives on; nothing for one that lives here, or that names no server at all: such an
/// account is served where it registered.
pub async fn elsewhere(federation: &Arc<Federation>, caller: &Did, account: &Did) -> Result<Option<Did>, NotLocated> {
    let found = locate(federation, caller, [account.clone()]).await?.remove(account);
    Ok(match found.unwrap_or(Err(HomeUnverified))? {
        AccountHome::Elsewhere(server) => Some(server),
        AccountHome::Here | AccountHome::Nowhere => None,
    })
}

/// Locates an account for a worker. A server that does not federate treats every account as local.
pub(super) async fn find(federation: &Federation, account: &Did) -> Result<AccountHome, HomeUnverified> {
    if federation.is_on() { federation.home_of(account, Age::First).await } else { Ok(AccountHome::Here) }
}

/// Locates the accounts that a call of `caller`, an account of this server, names.
pub async fn locate(
    federation: &Arc<Federation>,
    caller: &Did,
    accounts: impl IntoIterator<Item = Did>,
) -> Result<Whereabouts, TooManyLookups> {
    let accounts: BTreeSet<Did> = accounts.into_iter().collect();
    let mut found = Whereabouts::new();
    if !federation.is_on() {
        found.extend(accounts.into_iter().map(|account| (account, Ok(AccountHome::Here))));
        return Ok(found);
    }
    // Without the database no account counts as local, and the call fails at its next statement anyway.
    let own = store::list_local(federation.pool(), &accounts).await.unwrap_or_default();
    for account in &own {
        found.insert(account.clone(), Ok(federation.home_of_own(account).await));
    }
    let strangers = accounts.into_iter().filter(|account| !own.contains(account)).collect();
    found.extend(look_up(federation, caller, strangers).await?);
    Ok(found)
}

/// Locates the accounts that a peer's call for its account `caller` names. An account that registered here and whose
/// document names no server takes no part in federation, so each account's document decides.
pub async fn locate_for_peer(
    federation: &Arc<Federation>,
    caller: &Did,
    accounts: impl IntoIterator<Item = Did>,
) -> Result<Whereabouts, TooManyLookups> {
    look_up(federation, caller, accounts.into_iter().collect()).await
}

/// Looks the accounts up concurrently, with a bound on their number at one time.
async fn look_up(
    federation: &Arc<Federation>,
    caller: &Did,
    accounts: BTreeSet<Did>,
) -> Result<Whereabouts, TooManyLookups> {
    for account in &accounts {
        federation.may_look_up_for(caller, account).await?;
    }
    let (mut found, mut lookups) = (Whereabouts::new(), JoinSet::new());
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    for account in accounts {
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
    Ok(found)
}
