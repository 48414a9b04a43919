//! The bytes of a stream: genesis, header, content, checkpoint.
//!
//! Invariant: these bytes are made once, hashed, stored and forwarded as made; nobody encodes them again. Canonical
//! DAG-CBOR throughout. The chain covers headers only, and no header holds a name, so that content can be withheld, aged
//! out or erased while the chain still verifies.
//!
//! Invariant: a header may have fields of a later version; they are part of its bytes, and so of the chain. Only by
//! `requires` does an entry forbid a server without its feature to go on.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{EntryKind, StreamKind};
use crate::identity::{PublicKey, Signed, SigningKey};
use crate::types::{DeviceId, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};

pub(super) const VERSION: u8 = 1;
/// Longest header, in bytes.
pub const HEADER_BYTES: usize = 512;
/// Longest content, in bytes: a commit of 4 MiB less 64 KiB, and the members that it adds and removes. A home writes no
/// longer one, and a follower takes no longer one.
pub const CONTENT_BYTES: usize = (4 << 20) + (4 << 10);
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
    /// The name of a feature: a server that does not know the feature cannot know the effect of the entry, and accepts
    /// no further entry of the stream. A server may ignore an unknown entry without this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
}

impl Header {
    pub fn decode(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode(bytes, "header")
    }

    /// Decodes another server's header: canonical bytes, which may have fields that this version does not know.
    pub fn decode_exact(bytes: &[u8]) -> Result<Self, NotCanonical> {
        let header: Self = decode_canonical(bytes, "header")?;
        let names_a_feature = header.requires.as_deref().is_none_or(is_feature);
        if header.v == VERSION && names_a_feature { Ok(header) } else { Err(NotCanonical("header")) }
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

impl Sealed {
    /// Of header and content.
    pub fn size_bytes(&self) -> usize {
        self.header.len() + self.content.len()
    }
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
        self.seal_named(kind.name(), None, epoch, content, now)
    }

    /// Seals an entry of any kind, which may require a feature.
    pub fn seal_named(
        &mut self,
        kind: &str,
        requires: Option<&str>,
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
            kind: kind.to_owned(),
            time,
            content: Hash::labelled(CONTENT_LABEL, &content).0,
            epoch,
            requires: requires.map(str::to_owned),
        };
        let header = encode(&header, "header")?;
        let hash = Hash::labelled(ENTRY_LABEL, &header);
        (self.seq, self.hash, self.time) = (seq, hash, time);
        Ok(Sealed { seq, term: self.term, time, header, content, hash })
    }
}

/// Bytes of the longest name of a feature.
const FEATURE_BYTES: usize = 64;

/// Whether a text is the name of a feature: up to 64 lower-case ASCII letters, digits, dots and hyphens.
pub fn is_feature(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.' || byte == b'-';
    (1..=FEATURE_BYTES).contains(&name.len()) && name.bytes().all(is_letter)
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

    pub fn hash(&self) -> Hash {
        Hash(self.hash)
    }

    /// Where the stream stood.
    pub fn head(&self) -> Head {
        let Self { stream, term, seq, time, .. } = self;
        Head { stream: stream.clone(), term: *term, seq: *seq, hash: self.hash(), time: *time }
    }

    /// The statement to be signed, for whoever keeps the keys.
    pub fn statement(&self) -> Result<Vec<u8>, NotCanonical> {
        encode(self, "checkpoint")
    }

    /// What somebody else made: these bytes and no others.
    pub fn decode_exact(bytes: &[u8]) -> Result<Self, NotCanonical> {
        decode_exact(bytes, "checkpoint", |checkpoint: &Self| checkpoint.v == VERSION)
    }

    /// What a statement says, if it is a checkpoint. Its signature must be judged by the keys of the home that it names.
    pub fn of(signed: &Signed) -> Result<Self, NotCanonical> {
        Self::decode_exact(signed.statement.as_slice())
    }

    /// The same with the signature, where the key is at hand.
    pub fn verify(signed: &Signed, key: &PublicKey) -> Result<Self, NotCanonical> {
        let checkpoint = Self::of(signed)?;
        signed.verify(CHECKPOINT_LABEL, key).map_err(|_| NotCanonical("checkpoint of this key"))?;
        Ok(checkpoint)
    }

    /// Signed, it is the checkpoint that peers are shown; for the entry of a caller, it is the caller's receipt. Sign
    /// only what was committed.
    pub fn sign(&self, key_id: &str, key: &SigningKey) -> Result<Signed, NotCanonical> {
        Ok(Signed::sign(CHECKPOINT_LABEL, self.statement()?, key_id, key))
    }
}

pub fn encode<T: Serialize>(value: &T, what: &'static str) -> Result<Vec<u8>, NotCanonical> {
    serde_ipld_dagcbor::to_vec(value).map_err(|_| NotCanonical(what))
}

pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, NotCanonical> {
    serde_ipld_dagcbor::from_slice(bytes).map_err(|_| NotCanonical(what))
}

/// Decodes canonical DAG-CBOR and ignores fields that the type lacks: the order of keys and the length of integers are
/// those that the encoder of any version produces.
fn decode_canonical<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, NotCanonical> {
    let all: ipld_core::ipld::Ipld = decode(bytes, what)?;
    if encode(&all, what)? == bytes { decode(bytes, what) } else { Err(NotCanonical(what)) }
}

/// Decodes what encodes to the same bytes again: no other order of keys, no further keys, no longer integers.
pub(super) fn decode_exact<T: Serialize + serde::de::DeserializeOwned>(
    bytes: &[u8],
    what: &'static str,
    known: impl Fn(&T) -> bool,
) -> Result<T, NotCanonical> {
    let value: T = decode(bytes, what)?;
    if known(&value) && encode(&value, what)? == bytes { Ok(value) } else { Err(NotCanonical(what)) }
}

#[cfg(test)]
mod tests;
