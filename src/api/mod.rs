//! The methods: one folder for each lexicon group, one file for each method. Guess the path from the NSID.
//!
//! Groups never import each other: what two of them need lives in an engine below.

pub mod account;
pub mod admin;
mod event;
mod mls;
mod peer;
mod server;

use crate::xrpc::Api;

/// Everything that every server answers. Beside it stands [`admin::api`], where there are operators.
pub fn api() -> Api {
    account::api().merge(event::api()).merge(mls::api()).merge(peer::api()).merge(server::api())
}
