//! What operators do to the accounts of this server. Mounted only where `OPERATOR_DIDS` names somebody; the command line
//! does the same on the server's own machine.
//!
//! Deliberately absent: anything that reads what accounts say to each other, or changes their conversations.

pub mod accounts;
mod list_accounts;
mod store;
mod suspend_account;

use crate::lexicon::admin::{list_accounts::ListAccounts, suspend_account::SuspendAccount};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<ListAccounts, _, _>(list_accounts::list_accounts)
        .method::<SuspendAccount, _, _>(suspend_account::suspend_account)
}
