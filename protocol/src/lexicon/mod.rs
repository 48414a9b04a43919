//! The contract, generated from `lexicons/` by `cargo run -p lexicon-gen`: one module per NSID.
//!
//! Invariant: a value that passed [`schema`] and was read into a method's type obeys its lexicon in full; the types say
//! which fields there are, the interpreter checks what types cannot say. Nothing here knows who calls or what happens.

pub mod account;
pub mod admin;
mod documents;
pub mod event;
pub mod mls;
pub mod peer;
pub mod schema;
pub mod server;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use documents::DOCUMENTS;

use crate::types::Named;

/// How a method is called: GET, POST, or a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Query,
    Procedure,
    Subscription,
}

/// To which server a call is handed on that another one must judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forward {
    /// To the home of the stream that the call names.
    Home,
    /// To the servers of the accounts that the call names.
    Target,
}

/// A method of the contract. The generated markers (`mls::send_message::SendMessage`) implement this.
pub trait Method: Send + Sync + 'static {
    const NSID: &'static str;
    const KIND: Kind;
    /// Whether the input is DAG-CBOR, which the method reads by itself, and not JSON.
    const DAG_CBOR: bool = false;
    /// What its description says by "Forward: home." or "Forward: target.": peers may call it for their accounts.
    const FORWARD: Option<Forward> = None;
    type Params: DeserializeOwned + Serialize + Send;
    type Input: DeserializeOwned + Serialize + Send;
    /// A subscription's messages take the place of an answer.
    type Output: Serialize + DeserializeOwned + Send;
    type Error: Named;
}

/// A record of the contract, which lives in an account's repository. Written, it says its own `$type`.
pub trait Record: Serialize + DeserializeOwned + Send {
    const NSID: &'static str;
    /// Which keys it may have: `literal:self`, `tid`, `nsid` or `any`.
    const KEY: &'static str;
}

/// A part that a method does not have: writes `{}`, reads any object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}
