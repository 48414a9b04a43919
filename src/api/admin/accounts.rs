//! Changes of accounts that the admin methods and the command line share.
//!
//! Invariant: one transaction writes an account's state, the record of the operator, the entry in the account's stream,
//! and the notification that ends the account's sockets. Every instance hears the notification at the commit; the entry
//! ends the sockets of an instance that missed it.

use super::actions::{self, OperatorAction};
use super::store;
use crate::lexicon::admin::defs::Account;
use crate::log::body::{AccountBody, Body};
use crate::log::{self, EntryKind, Outgoing, queue};
use crate::storage::{self, Storage};
use crate::types::{Did, UnixMillis};

/// The most bytes of the reason for a suspension.
pub const REASON_BYTES: usize = 512;

/// A page of accounts, oldest first, after the one with that number.
pub struct Page {
    pub accounts: Vec<Account>,
    /// If there are more.
    pub cursor: Option<i64>,
}

pub async fn list(storage: &Storage, after: i64, limit: i64) -> Result<Page, storage::Error> {
    let mut rows = store::list_accounts(storage.pool(), after, limit + 1).await?;
    let more = i64::try_from(rows.len()).is_ok_and(|found| found > limit);
    if more {
        rows.pop();
    }
    let cursor = rows.last().filter(|_| more).map(|last| last.id);
    let accounts = rows.into_iter().map(store::AccountRow::into_account).collect::<Result<_, _>>()?;
    Ok(Page { accounts, cursor })
}

/// Suspends an account, or lets it call again; None if it is not here. A repeat changes nothing: the first reason stays.
/// `by`: the operator's name in the log of actions.
pub async fn set_suspended(
    storage: &Storage,
    by: &str,
    account: &Did,
    suspended: bool,
    reason: Option<&str>,
    now: UnixMillis,
) -> Result<Option<Account>, log::Error> {
    let mut tx = storage.begin().await?;
    let since = suspended.then(|| now.to_datetime());
    if let Some(account_id) = store::set_suspended(tx.conn(), account, since, reason.filter(|_| suspended)).await? {
        let state = if suspended { "suspended" } else { "active" };
        let body = AccountBody { state: state.to_owned() }.encode()?;
        queue(tx.conn(), &[Outgoing { account_id, kind: EntryKind::Account, body }], now).await?;
        if suspended {
            log::close_sockets(tx.conn(), account_id).await?;
        }
        let name = if suspended { "suspendAccount" } else { "resumeAccount" };
        let reason = reason.filter(|_| suspended).map(|reason| ("reason", reason));
        let action = OperatorAction { by, name, account: Some(account), detail: reason.as_slice() };
        actions::record(tx.conn(), &action, now).await?;
    }
    let found = store::find_account(tx.conn(), account).await?;
    tx.commit().await?;
    Ok(found.map(store::AccountRow::into_account).transpose()?)
}
