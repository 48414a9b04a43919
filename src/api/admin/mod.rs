//! What operators do to the accounts of this server, and decide about other servers. Mounted only where `OPERATOR_DIDS` names somebody; the command line
//! does the same on the server's own machine.
//!
//! Deliberately absent: anything that reads what accounts say to each other, or changes their conversations.

pub mod accounts;
mod delete_peer;
mod list_accounts;
mod list_peers;
pub mod peers;
mod put_peer;
mod store;
mod suspend_account;

use crate::lexicon::admin::{
    delete_peer::DeletePeer, list_accounts::ListAccounts, list_peers::ListPeers, put_peer::PutPeer,
    suspend_account::SuspendAccount,
};
use crate::xrpc::Api;

pub fn api() -> Api {
    Api::new()
        .method::<DeletePeer, _, _>(delete_peer::delete_peer)
        .method::<ListPeers, _, _>(list_peers::list_peers)
        .method::<PutPeer, _, _>(put_peer::put_peer)
        .method::<ListAccounts, _, _>(list_accounts::list_accounts)
        .method::<SuspendAccount, _, _>(suspend_account::suspend_account)
}
