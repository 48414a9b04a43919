//! The vocabulary: values that are parsed once, at the edge, and trusted from there on. No IO.

mod base32;
mod bytes;
mod clock;
mod device_id;
mod did;
mod hash;
mod idem;
mod numbers;
mod refusal;
mod stream_id;

pub use base32::base32_lower;
pub use bytes::Bytes;
pub use clock::Clock;
pub use device_id::DeviceId;
pub use did::Did;
pub use hash::Hash;
pub use idem::Idem;
pub use numbers::{Cursor, Epoch, Seq, Term, UnixMillis};
pub use refusal::{Detail, Named, Refusal};
pub use stream_id::StreamId;

/// Why a text is not the value that it should be. Safe to show to a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct Malformed {
    pub what: &'static str,
    pub why: &'static str,
}

impl Malformed {
    pub const fn new(what: &'static str, why: &'static str) -> Self {
        Self { what, why }
    }
}
