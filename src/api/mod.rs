//! The methods: one folder for each lexicon group, one file for each method. Guess the path from the NSID.
//!
//! Groups never import each other: what two of them need lives in an engine below.

mod account;
mod event;
mod mls;

use crate::xrpc::Api;

/// Everything that this server answers.
pub fn api() -> Api {
    account::api().merge(event::api()).merge(mls::api())
}
