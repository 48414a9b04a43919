//! The one body between servers that is not JSON: entries as made, in canonical DAG-CBOR.

use serde::{Deserialize, Serialize};

use super::REQUEST_ENTRIES;
use super::erasures::ERASURES;
use crate::identity::Signed;
use crate::log::chain::{CONTENT_BYTES, HEADER_BYTES, NotCanonical, decode, encode};
use crate::log::{Held, RawEntry};
use crate::types::{Bytes, Refusal, Seq, StreamId, Term};

const WHAT: &str = "body of replicate";

/// The next entries of a stream, from its home to a follower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replicate {
    pub stream: StreamId,
    /// That of the last entry.
    pub term: Term,
    pub from: Seq,
    /// The hash of the entry before the first.
    pub prev: Bytes,
    pub entries: Vec<WireEntry>,
    /// The home's, at the last entry.
    pub checkpoint: Signed,
    /// Later entries by which contents of messages are missing: at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erasures: Vec<WireErasure>,
}

/// An `#erased` entry that is shown ahead, and the home's checkpoint for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireErasure {
    pub header: Bytes,
    pub content: Bytes,
    pub checkpoint: Signed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WireEntry {
    pub header: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Bytes>,
}

impl From<RawEntry> for WireEntry {
    fn from(entry: RawEntry) -> Self {
        Self { header: Bytes(entry.held.header), content: entry.held.content.map(Bytes) }
    }
}

impl From<WireEntry> for Held {
    fn from(entry: WireEntry) -> Self {
        Self { header: entry.header.0, content: entry.content.map(|content| content.0) }
    }
}

impl Replicate {
    pub fn encode(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, WHAT)
    }

    /// Decodes a body within the limits. Verification of the entries comes later; fields of later versions are ignored.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = |why: &str| Refusal::new("Malformed", why.to_owned());
        let body: Self = decode(bytes, WHAT).map_err(|why| malformed(&why.to_string()))?;
        let entries = &body.entries;
        if entries.is_empty() || entries.len() > REQUEST_ENTRIES as usize {
            return Err(malformed("1 to 256 entries are taken"));
        }
        if body.erasures.len() > ERASURES {
            return Err(malformed("at most 16 erasures are shown ahead"));
        }
        let fits = |header: &Bytes, content: Option<&Bytes>| {
            header.0.len() <= HEADER_BYTES && content.is_none_or(|content| content.0.len() <= CONTENT_BYTES)
        };
        let fit = entries.iter().all(|entry| fits(&entry.header, entry.content.as_ref()))
            && body.erasures.iter().all(|erasure| fits(&erasure.header, Some(&erasure.content)));
        if body.prev.0.len() != 32 || !fit {
            return Err(malformed("a hash has 32 bytes, a header 512 at most, a content 4 MiB and 4 KiB at most"));
        }
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body with a field that this version does not know, at its top and in an entry.
    #[derive(Serialize)]
    struct Later {
        stream: StreamId,
        term: Term,
        from: Seq,
        prev: Bytes,
        entries: Vec<LaterEntry>,
        checkpoint: Signed,
        later: u8,
    }

    #[derive(Serialize)]
    struct LaterEntry {
        header: Bytes,
        later: u8,
    }

    impl Later {
        fn of(body: &Replicate) -> Self {
            let entry = |entry: &WireEntry| LaterEntry { header: entry.header.clone(), later: 1 };
            Self {
                stream: body.stream.clone(),
                term: body.term,
                from: body.from,
                prev: body.prev.clone(),
                entries: body.entries.iter().map(entry).collect(),
                checkpoint: body.checkpoint.clone(),
                later: 1,
            }
        }
    }

    #[test]
    fn a_decoded_body_ignores_fields_of_later_versions() {
        let entry = WireEntry { header: Bytes(vec![1]), content: None };
        let signed = Signed { statement: Bytes(vec![2]), key: "#checkpoint-ktr7tvtd".to_owned(), sig: Bytes(vec![3]) };
        let body = Replicate {
            stream: StreamId::parse("scwfgagcsyqhmdj7pbehnj6jvili52f63").unwrap(),
            term: Term(7),
            from: Seq(1),
            prev: Bytes(vec![0; 32]),
            entries: vec![entry.clone()],
            checkpoint: signed.clone(),
            erasures: Vec::new(),
        };
        let erasure = WireErasure { header: Bytes(vec![1]), content: Bytes(vec![4]), checkpoint: signed };
        let with_one = Replicate { erasures: vec![erasure.clone()], ..body.clone() };
        assert_eq!(Replicate::decode(&with_one.encode().unwrap()).unwrap(), with_one);
        let bytes = body.encode().unwrap();
        assert_eq!(Replicate::decode(&bytes).unwrap(), body);
        let later = encode(&Later::of(&body), WHAT).unwrap();
        assert_eq!(Replicate::decode(&later).unwrap(), body);
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Replicate::decode(&longer).unwrap_err().name, "Malformed");
        let refused = |change: &dyn Fn(&mut Replicate)| {
            let mut other = body.clone();
            change(&mut other);
            Replicate::decode(&other.encode().unwrap()).is_err()
        };
        assert!(refused(&|body| body.entries.clear()));
        assert!(refused(&|body| body.entries = vec![entry.clone(); 257]));
        assert!(refused(&|body| body.prev.0.truncate(31)));
        assert!(!refused(&|body| body.erasures = vec![erasure.clone(); 16]));
        assert!(refused(&|body| body.erasures = vec![erasure.clone(); 17]));
        assert!(refused(&|body| body.entries[0].header.0 = vec![0; 513]));
        assert!(refused(&|body| body.entries[0].content = Some(Bytes(vec![0; CONTENT_BYTES + 1]))));
    }
}
