//! The body of `blue.catbird.peer.transferHome`: canonical DAG-CBOR, because the snapshot may be large.

use serde::{Deserialize, Serialize};

use super::SNAPSHOT_BYTES;
use crate::log::Head;
use crate::log::chain::{NotCanonical, decode, encode};
use crate::types::{Bytes, Hash, Refusal, Seq, StreamId, Term};

const WHAT: &str = "body of transferHome";

/// A stream as it stands, offered to the next home.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    pub hash: Bytes,
    /// The snapshot of data outside of the log, as canonical DAG-CBOR.
    pub snapshot: Bytes,
}

impl Transfer {
    pub fn of(head: &Head, snapshot: Vec<u8>) -> Self {
        let Head { stream, term, seq, hash, .. } = head;
        let (hash, snapshot) = (Bytes(hash.to_vec()), Bytes(snapshot));
        Self { stream: stream.clone(), term: *term, seq: *seq, hash, snapshot }
    }

    /// Whether this is where the stream stands.
    pub fn stands_at(&self, head: &Head) -> bool {
        (self.term, self.seq, self.hash.as_slice()) == (head.term, head.seq, head.hash.as_slice())
    }

    pub fn snapshot_hash(&self) -> Hash {
        Hash::of(self.snapshot.as_slice())
    }

    pub fn encode(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, WHAT)
    }

    /// Decodes a body within the limits. Fields of later versions are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why: &str| Refusal::new("Malformed", why.to_owned());
        let body: Self = decode(bytes, WHAT).map_err(|why| malformed(&why.to_string()))?;
        if body.hash.0.len() != 32 || body.snapshot.0.len() > SNAPSHOT_BYTES {
            return Err(malformed("a hash has 32 bytes, a snapshot 32 MiB at most"));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_as_made_and_nothing_else_is() {
        let stream = StreamId::parse("scwfgagcsyqhmdj7pbehnj6jvili52f63").unwrap();
        let (hash, snapshot) = (Bytes(vec![1; 32]), Bytes(vec![2]));
        let body = Transfer { stream, term: Term(7), seq: Seq(3), hash, snapshot };
        let bytes = body.encode().unwrap();
        assert_eq!(Transfer::decode(&bytes).unwrap(), body);
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(Transfer::decode(&longer).unwrap_err().name, "Malformed");
        let short = Transfer { hash: Bytes(vec![1; 31]), ..body };
        assert_eq!(Transfer::decode(&short.encode().unwrap()).unwrap_err().name, "Malformed");
    }
}
