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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Curve, SigningKey, key_tag};

    /// The vector of the federation protocol: any other implementation must make the same bytes.
    const STATEMENT: &str = "a961760162746f716469643a7765623a622e6578616d706c6563736571026466726f6d716469643a7765623a612e6578616d706c65646861736858204418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b0647465726d1a6afd86c06673747265616d78217363776667616763737971686d646a37706265686e6a366a76696c693532663633686e6f7441667465721b000001a1ee575be968736e617073686f7458203333333333333333333333333333333333333333333333333333333333333333";
    const SIGNATURE: &str = "7177d6de29b767205af6e457db143a2632786b0a4a462b35e49cda9e681ceef98b5818587d08b5fc67fe9bc8b4cd145ef50e9a9d98106d5d86e1a7231e6e3500";

    #[test]
    fn the_vector_of_the_protocol_comes_out() {
        let head = Head {
            stream: StreamId::parse("scwfgagcsyqhmdj7pbehnj6jvili52f63").unwrap(),
            term: Term(0x6afd_86c0),
            seq: Seq(2),
            hash: Hash::from_slice(
                &hex::decode("4418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b0").unwrap(),
            )
            .unwrap(),
            time: UnixMillis(0),
        };
        let [from, to] = ["did:web:a.example", "did:web:b.example"].map(|did| Did::parse(did).unwrap());
        let not_after = UnixMillis(0x01a1_ee56_7189 + 60_000);
        let acceptance = Acceptance::new(&from, &to, &head, Hash([0x33; 32]), not_after);
        let seed = Hash::of(b"checkpoint test key b.example");
        let key = SigningKey::from_bytes(Curve::Ed25519, seed.as_slice()).unwrap();
        let id = format!("#checkpoint-{}", key_tag(&key.public()));
        let signed = Signed::sign(ACCEPTANCE_LABEL, acceptance.statement().unwrap(), &id, &key);
        assert_eq!(
            (hex::encode(&signed.statement), signed.key.as_str()),
            (STATEMENT.to_owned(), "#checkpoint-3zolk7ol")
        );
        assert_eq!(hex::encode(&signed.sig), SIGNATURE);
        assert_eq!(Acceptance::of(&signed).unwrap(), acceptance, "and is read back");
    }
}
