//! A client of Rookery.
//!
//! [`Session`] is a device at a server: it proves itself with tokens that it signs, calls any method of the lexicons
//! (repeating what got lost, byte for byte, under the same `idem`), pairs further devices and checks the account's device
//! chain. [`Feed`] is its subscription: resumed by cursor, every entry checked against its chain. [`Device`] is a session
//! with MLS groups (feature `mls`, on by default; their state lives in memory, so a product that must survive its own end
//! keeps its groups itself and uses [`Session`]).
//!
//! Types and checks that a server has too are [`rookery_protocol`]'s, which is exported here as [`protocol`].

pub mod account;
mod chain;
#[cfg(feature = "mls")]
pub mod device;
mod error;
pub mod feed;
#[cfg(feature = "mls")]
pub mod mls;
mod pairing;
mod pds;
mod service;
mod session;

pub use rookery_protocol as protocol;

pub use account::{Account, OwnKey};
pub use chain::read_chain;
#[cfg(feature = "mls")]
pub use device::{Claimed, Committed, Device, Heard, Sent};
pub use error::ClientError;
pub use feed::{Broken, Chains, EventCursor, Feed, FeedError, Frame, Link, Received, What, read_frame};
pub use pairing::PairingCode;
pub use pds::Pds;
pub use service::{CallError, Refused, Service};
pub use session::Session;

/// A fresh name for a call: 32 characters.
pub fn idem() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}
