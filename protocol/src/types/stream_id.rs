use serde::{Deserialize, Serialize};

use super::{Hash, Malformed, base32_lower};

/// The public id of a stream: `s` and base32 of the first 20 bytes of the hash of its genesis.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId(String);

impl StreamId {
    /// `genesis` is the canonical DAG-CBOR that founds the stream.
    pub fn of_genesis(genesis: &[u8]) -> Self {
        let hash = Hash::labelled("rookery stream v1", genesis);
        Self(format!("s{}", base32_lower(&hash.0[..20])))
    }

    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let ok = text.len() == 33
            && text.starts_with('s')
            && text[1..].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed::new("stream", "expected s and 32 characters of base32"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for StreamId {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> Self {
        id.0
    }
}
