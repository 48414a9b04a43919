//! A server's word that it takes over a stream (FEDERATION section 10).

use serde::{Deserialize, Serialize};

use super::chain::{Head, Header, NotCanonical, VERSION, decode_exact, encode};
use crate::identity::Signed;
use crate::types::{Bytes, Did, Hash, Seq, StreamId, Term, UnixMillis};

pub const ACCEPTANCE_LABEL: &str = "rookery acceptance v1";

/// "I hold this stream up to here, with what you told me beside it, and order it as soon as your `#homeChanged` comes
/// next." Signed by a checkpoint key of `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    v: u8,
    /// The home that hands the stream over.
    pub from: Did,
    /// The one that takes it.
    pub to: Did,
    pub stream: StreamId,
    /// The head at which it stands.
    pub term: Term,
    pub seq: Seq,
    hash: Bytes,
    /// SHA-256 of what was handed over beside the log.
    pub snapshot: Bytes,
    /// It counts for a `#homeChanged` of this time at the latest.
    pub not_after: UnixMillis,
}

impl Acceptance {
    pub fn new(from: &Did, to: &Did, head: &Head, snapshot: Hash, not_after: UnixMillis) -> Self {
        Self {
            v: VERSION,
            from: from.clone(),
            to: to.clone(),
            stream: head.stream.clone(),
            term: head.term,
            seq: head.seq,
            hash: Bytes(head.hash.to_vec()),
            snapshot: Bytes(snapshot.to_vec()),
            not_after,
        }
    }

    /// The statement to be signed, for whoever keeps the keys.
    pub fn statement(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, "acceptance")
    }

    /// What a statement says, if it is an acceptance. Its signature must be judged by the keys of `to`.
    pub fn of(signed: &Signed) -> Result<Self, NotCanonical> {
        decode_exact(signed.statement.as_slice(), "acceptance", |acceptance: &Self| acceptance.v == VERSION)
    }

    /// Whether it is the word of `to` for the entry before this `#homeChanged`.
    pub fn is_for(&self, changed: &Header, to: &Did) -> bool {
        let before = (self.term, self.seq.next(), self.hash.as_slice());
        self.to == *to
            && self.from != self.to
            && self.stream == changed.stream
            && before == (changed.term, changed.seq, changed.prev().as_slice())
            && changed.time <= self.not_after
    }
}
