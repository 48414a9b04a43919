//! Admin methods: operators manage the accounts of this server and its relations to other servers. Mounted only where
//! `OPERATOR_DIDS` names an account; the command line offers the operations on the server's own machine.
//!
//! Invariant: each change by an operator is recorded in the log of actions, in its own transaction.
//!
//! Deliberately absent: any method that reads messages, or changes conversations, except that an operator names an
//! admin where no admin can act.

pub mod accounts;
pub mod actions;
mod delete_peer;
mod list_accounts;
mod list_actions;
mod list_peers;
mod name_admin;
pub mod peers;
mod put_peer;
mod store;
mod suspend_account;

use crate::lexicon::admin::{
    delete_peer::DeletePeer, list_accounts::ListAccounts, list_actions::ListActions, list_peers::ListPeers,
    name_admin::NameAdmin, put_peer::PutPeer, suspend_account::SuspendAccount,
};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<DeletePeer, _, _>(delete_peer::delete_peer)
        .method::<ListPeers, _, _>(list_peers::list_peers)
        .method::<NameAdmin, _, _>(name_admin::name_admin)
        .method::<PutPeer, _, _>(put_peer::put_peer)
        .method::<ListAccounts, _, _>(list_accounts::list_accounts)
        .method::<ListActions, _, _>(list_actions::list_actions)
        .method::<SuspendAccount, _, _>(suspend_account::suspend_account)
}
