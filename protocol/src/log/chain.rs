//! The bytes of a stream: genesis, header, content, checkpoint.
//!
//! Invariant: these bytes are made once, hashed, stored and forwarded as made; nobody encodes them again. Canonical
//! DAG-CBOR throughout. The chain covers headers only, and no header holds a name, so that content can be withheld, aged
//! out or erased while the chain still verifies.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{EntryKind, StreamKind};
use crate::identity::{Signed, SigningKey};
use crate::types::{DeviceId, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};

const VERSION: u8 = 1;
/// Longest header, in bytes.
pub const HEADER_BYTES: usize = 512;
pub const CONTENT_LABEL: &str = "rookery content v1";
const ENTRY_LABEL: &str = "rookery entry v1";
/// What a checkpoint, and so a receipt, is signed under.
pub const CHECKPOINT_LABEL: &str = "rookery checkpoint v1";

/// Bytes that are not the canonical structure that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a canonical {0}")]
pub struct NotCanonical(pub &'static str);

/// What founds a stream. Its hash is the stream's id, so nobody can claim another's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    v: u8,
    pub kind: String,
    pub home: String,
    #[serde(with = "serde_bytes")]
    nonce: Vec<u8>,
    pub time: UnixMillis,
}

impl Genesis {
    pub fn new(kind: StreamKind, home: &str, time: UnixMillis) -> Self {
        let mut nonce = vec![0; 16];
        rand::rng().fill_bytes(&mut nonce);
        Self { v: VERSION, kind: kind.name().to_owned(), home: home.to_owned(), nonce, time }
    }

    /// The first reign: the founding time in whole seconds.
    pub fn term(&self) -> Term {
        Term(u64::try_from(self.time.0 / 1000).unwrap_or(0))
    }

    pub fn encode(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, "genesis")
    }

    /// What somebody else made: these bytes and no others.
    pub fn decode_exact(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode_exact(bytes, "genesis", |genesis: &Self| genesis.v == VERSION)
    }
}

/// The part of an entry that the chain covers. At most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    v: u8,
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    #[serde(with = "serde_bytes")]
    prev: [u8; 32],
    pub kind: String,
    pub time: UnixMillis,
    #[serde(with = "serde_bytes")]
    content: [u8; 32],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
}

impl Header {
    pub fn decode(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode(bytes, "header")
    }

    /// What somebody else made: these bytes and no others.
    pub fn decode_exact(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode_exact(bytes, "header", |header: &Self| header.v == VERSION)
    }

    /// The hash of the entry before.
    pub fn prev(&self) -> Hash {
        Hash(self.prev)
    }

    /// The hash of the content.
    pub fn content(&self) -> Hash {
        Hash(self.content)
    }
}

/// The part of an entry that can be withheld. The salt keeps a short erased content from being guessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub salt: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Did>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
}

impl Content {
    /// With a fresh salt of 16 random bytes.
    pub fn new(body: Vec<u8>, author: Option<(Did, DeviceId)>) -> Self {
        let mut salt = vec![0; 16];
        rand::rng().fill_bytes(&mut salt);
        let (author, device) = author.unzip();
        Self { body, salt, author, device }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode(bytes, "content")
    }

    /// What somebody else made: these bytes and no others.
    pub fn decode_exact(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode_exact(bytes, "content", |_: &Self| true)
    }
}

/// Where the next entry goes: the end of a stream as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    pub hash: Hash,
    pub time: UnixMillis,
}

/// An entry as made: its bytes and their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub seq: Seq,
    pub term: Term,
    pub time: UnixMillis,
    pub header: Vec<u8>,
    pub content: Vec<u8>,
    pub hash: Hash,
}

impl Head {
    /// Makes the next entry and moves the head to it. Time never decreases within a stream.
    pub fn seal(
        &mut self,
        kind: EntryKind,
        epoch: Option<Epoch>,
        content: &Content,
        now: UnixMillis,
    ) -> Result<Sealed, NotCanonical> {
        let content = encode(content, "content")?;
        let seq = self.seq.next();
        let time = now.max(self.time);
        let header = Header {
            v: VERSION,
            stream: self.stream.clone(),
            term: self.term,
            seq,
            prev: self.hash.0,
            kind: kind.name().to_owned(),
            time,
            content: Hash::labelled(CONTENT_LABEL, &content).0,
            epoch,
        };
        let header = encode(&header, "header")?;
        let hash = Hash::labelled(ENTRY_LABEL, &header);
        (self.seq, self.hash, self.time) = (seq, hash, time);
        Ok(Sealed { seq, term: self.term, time, header, content, hash })
    }
}

/// The hash of an entry, from its header as made.
pub fn entry_hash(header: &[u8]) -> Hash {
    Hash::labelled(ENTRY_LABEL, header)
}

/// What a reader checks of a header and its content (absent when withheld) against the hash of the entry before.
pub fn links(header: &[u8], content: Option<&[u8]>, prev: Hash) -> Result<Header, NotCanonical> {
    let decoded = Header::decode(header)?;
    let content_fits = content.is_none_or(|content| Hash::labelled(CONTENT_LABEL, content).0 == decoded.content);
    if decoded.prev == prev.0 && content_fits { Ok(decoded) } else { Err(NotCanonical("link of the chain")) }
}

/// "Under this term I put this hash at this seq, and I will never put another there." Signed after the commit only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    v: u8,
    pub home: String,
    pub stream: StreamId,
    pub term: Term,
    pub seq: Seq,
    #[serde(with = "serde_bytes")]
    hash: [u8; 32],
    pub time: UnixMillis,
}

impl Checkpoint {
    pub fn new(home: &str, head: &Head) -> Self {
        Self {
            v: VERSION,
            home: home.to_owned(),
            stream: head.stream.clone(),
            term: head.term,
            seq: head.seq,
            hash: head.hash.0,
            time: head.time,
        }
    }

    fn encode(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, "checkpoint")
    }

    /// Signed, it is the checkpoint that peers are shown; for the entry of a caller, it is the caller's receipt. Sign
    /// only what was committed.
    pub fn sign(&self, key_id: &str, key: &SigningKey) -> Result<Signed, NotCanonical> {
        Ok(Signed::sign(CHECKPOINT_LABEL, self.encode()?, key_id, key))
    }
}

pub fn encode<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, NotCanonical> {
    serde_ipld_dagcbor::to_vec(value).map_err(|_| NotCanonical(what))
}

pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, NotCanonical> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|_| NotCanonical(what))
}

/// Decodes what encodes to the same bytes again: no other order of keys, no further keys, no longer integers.
fn decode_exact<T: Serialize + serde::de::DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    known: impl Fn(&T) -> bool,
) -> Result<T, NotCanonical> {
    let value: T = decode(bytes, what)?;
    if known(&value) && encode(&value, what)? == bytes { Ok(value) } else { Err(NotCanonical(what)) }
}

#[cfg(test)]
mod tests {
    use ipld_core::ipld::Ipld;

    use super::*;
    use crate::identity::{Curve, key_tag};

    /// The vectors of the federation protocol: any other implementation must make the same bytes.
    const GENESIS: &str = "a561760164686f6d65716469643a7765623a612e6578616d706c65646b696e6465636f6e766f6474696d651b000001a1ee565e00656e6f6e636550000102030405060708090a0b0c0d0e0f";
    const STREAM: &str = "scwfgagcsyqhmdj7pbehnj6jvili52f63";
    const HEADER_1: &str = "a86176016373657101646b696e6467236f70656e6564647072657658200000000000000000000000000000000000000000000000000000000000000000647465726d1a6afd86c06474696d651b000001a1ee565e006673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820dba86cb51c49e48a5c3ab8d5fcd2ddba3db4119d4cd0ade4aa5558db5b9e6487";
    const HASH_1: &str = "fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f";
    const CONTENT_2: &str = "a464626f6479516f706171756520636970686572746578746473616c74502222222222222222222222222222222266617574686f7278206469643a706c633a65777669376e787a796f756e367a687872687336346f697a66646576696365626431";
    const HEADER_2: &str = "a96176016373657102646b696e6468236d65737361676564707265765820fe7f01f802cc91472335452a45384cef65e8955ebf5508ad1bddf5a06d3ae68f647465726d1a6afd86c06474696d651b000001a1ee5671886565706f6368016673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c69353266363367636f6e74656e745820f4f9aee5099b53beac482a1e9b971cd02cc3d31ae3ec6c3dfeecac72e51b9782";
    const HASH_2: &str = "4418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b0";
    const CHECKPOINT: &str = "a76176016373657102646861736858204418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b064686f6d65716469643a7765623a612e6578616d706c65647465726d1a6afd86c06474696d651b000001a1ee5671896673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c693532663633";

    const RECEIPT_SIGNATURE: &str = "f356d707971e5e142a3a0b348515750faaab330e6012652bd5612dbe9af333b79fd9dbca0a9a5230f1e024370256ca48880cbca529e79d291469d59c3fc07000";

    fn genesis() -> Genesis {
        Genesis {
            v: 1,
            kind: "convo".into(),
            home: "did:web:a.example".into(),
            nonce: (0..16).collect(),
            time: UnixMillis(0x01a1_ee56_5e00),
        }
    }

    #[test]
    fn the_vectors_of_the_protocol_come_out() {
        let genesis = genesis();
        let bytes = genesis.encode().unwrap();
        assert_eq!(hex::encode(&bytes), GENESIS);
        let stream = StreamId::of_genesis(&bytes);
        assert_eq!(stream.as_str(), STREAM);
        assert_eq!(genesis.term(), Term(0x6afd_86c0));

        let mut head = Head { stream, term: genesis.term(), seq: Seq(0), hash: Hash::ZERO, time: UnixMillis(0) };
        let content = Content { body: bytes, salt: vec![0x11; 16], author: None, device: None };
        let first = head.seal(EntryKind::Opened, None, &content, genesis.time).unwrap();
        assert_eq!(hex::encode(&first.header), HEADER_1);
        assert_eq!(first.hash.to_string(), HASH_1);

        // A device id of another server is any string: the vector's "d1" is not one of ours, so its content is given.
        let content = hex::decode(CONTENT_2).unwrap();
        let header = Header {
            v: 1,
            stream: head.stream.clone(),
            term: head.term,
            seq: Seq(2),
            prev: head.hash.0,
            kind: "#message".into(),
            time: UnixMillis(0x01a1_ee56_7188),
            content: Hash::labelled(CONTENT_LABEL, &content).0,
            epoch: Some(Epoch(1)),
        };
        let header = encode(&header, "header").unwrap();
        assert_eq!(hex::encode(&header), HEADER_2);
        assert_eq!(entry_hash(&header).to_string(), HASH_2);
        let linked = links(&header, Some(&content), first.hash).unwrap();
        assert_eq!(linked.seq, Seq(2));
        assert!(links(&header, Some(&content), Hash::ZERO).is_err());
        assert!(links(&header, Some(b"other"), first.hash).is_err());

        let end = Head { seq: Seq(2), hash: entry_hash(&header), time: UnixMillis(0x01a1_ee56_7189), ..head };
        let key = |text: &str| SigningKey::from_bytes(Curve::Ed25519, Hash::of(text.as_bytes()).as_slice()).unwrap();
        let (peer, checkpoint) = (key("peer test key b.example"), key("checkpoint test key a.example"));
        let key_id = format!("#checkpoint-{}", key_tag(&checkpoint.public()));
        let receipt = Checkpoint::new("did:web:a.example", &end).sign(&key_id, &checkpoint).unwrap();
        assert_eq!(hex::encode(&receipt.statement), CHECKPOINT);
        assert_eq!(receipt.key, "#checkpoint-ktr7tvtd");
        assert_eq!(hex::encode(&receipt.sig), RECEIPT_SIGNATURE);
        assert!(receipt.verify(CHECKPOINT_LABEL, &checkpoint.public()).is_ok());
        assert!(receipt.verify(CHECKPOINT_LABEL, &peer.public()).is_err());
    }

    #[derive(Debug, Deserialize)]
    struct Map {
        a: u8,
        b: u8,
    }

    #[test]
    fn bytes_that_are_not_canonical_are_refused() {
        let mut head = Head {
            stream: StreamId::parse(STREAM).unwrap(),
            term: Term(1),
            seq: Seq(0),
            hash: Hash::ZERO,
            time: UnixMillis(5),
        };
        let sealed =
            head.seal(EntryKind::Message, Some(Epoch(3)), &Content::new(vec![1], None), UnixMillis(1)).unwrap();
        assert_eq!(sealed.time, UnixMillis(5), "time never decreases");
        assert!(Header::decode(&sealed.header).is_ok());
        let mut trailing = sealed.header.clone();
        trailing.push(0);
        assert!(Header::decode(&trailing).is_err());
        // The version as 0x18 0x01: the same number, not in its shortest form.
        let at = sealed.header.iter().position(|&b| b == b'v').unwrap() + 1;
        let mut longer = sealed.header.clone();
        longer.splice(at..=at, [0x18, 0x01]);
        assert!(Header::decode(&longer).is_err());
        // Keys in another order, and one of them twice.
        let two = |first: &str, second: &str| {
            let map = [(first, Ipld::Integer(1)), (second, Ipld::Integer(1))];
            let mut bytes = vec![0xa2];
            for (key, value) in map {
                bytes.extend(encode(&Ipld::String(key.into()), "key").unwrap());
                bytes.extend(encode(&value, "value").unwrap());
            }
            bytes
        };
        let map: Map = decode(&two("a", "b"), "map").unwrap();
        assert_eq!((map.a, map.b), (1, 1));
        for (first, second) in [("b", "a"), ("aa", "b"), ("a", "a")] {
            assert!(decode::<Ipld>(&two(first, second), "map").is_err(), "{first} {second}");
            assert!(decode::<Map>(&two(first, second), "map").is_err(), "{first} {second}");
        }
    }

    #[test]
    fn the_data_model_s_fixtures_are_canonical_and_have_their_names() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/atproto/data-model/data-model-fixtures.json");
        let fixtures: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for fixture in fixtures.as_array().unwrap() {
            let name = fixture["cid"].as_str().unwrap();
            let bytes = crate::types::Bytes::decode(fixture["cbor_base64"].as_str().unwrap()).unwrap().0;
            let value: Ipld = decode(&bytes, "fixture").unwrap();
            assert_eq!(encode(&value, "fixture").unwrap(), bytes, "{name}");
            // CIDv1, DAG-CBOR, SHA-256.
            let cid = [&[0x01, 0x71, 0x12, 0x20][..], Hash::of(&bytes).as_slice()].concat();
            assert_eq!(multibase::encode(multibase::Base::Base32Lower, cid), name);
        }
    }
}
