use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte string of the AT Protocol data model: `{"$bytes": "<base64>"}` in JSON, a byte string in DAG-CBOR.
///
/// JSON input may be padded or not; output is unpadded standard base64.
#[derive(Clone, PartialEq, Eq, Default, Hash)]
pub struct Bytes(pub Vec<u8>);

const KEY: &str = "$bytes";

/// Standard alphabet, padding optional: what the data model allows on input.
const INPUT: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Bytes {
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// Decodes the text of a `$bytes` member.
    pub fn decode(text: &str) -> Option<Self> {
        base64::Engine::decode(&INPUT, text).ok().map(Self)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Bytes {
    /// The length alone: contents may be secret, and are long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bytes({} bytes)", self.0.len())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, &self.0);
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(KEY, &text)?;
            map.end()
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_map(BytesVisitor)
        } else {
            deserializer.deserialize_bytes(BytesVisitor)
        }
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(Bytes(bytes.to_vec()))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(Bytes(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(Bytes(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Bytes, A::Error> {
        let Some((key, text)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::custom("expected {\"$bytes\": \"…\"}"));
        };
        if key != KEY || map.next_entry::<String, serde::de::IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("expected exactly {\"$bytes\": \"…\"}"));
        }
        Bytes::decode(&text).ok_or_else(|| A::Error::custom("$bytes is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn json_takes_padded_and_unpadded_and_gives_unpadded() {
        for text in [r#"{"$bytes":"AQ"}"#, r#"{"$bytes":"AQ=="}"#] {
            let bytes: Bytes = serde_json::from_str(text).unwrap();
            assert_eq!(bytes.0, [1]);
            assert_eq!(serde_json::to_string(&bytes).unwrap(), r#"{"$bytes":"AQ"}"#);
        }
        for text in [r#""AQ""#, r#"{"$bytes":"AQ","x":"1"}"#, r#"{"$bytes":"*"}"#, "{}"] {
            assert!(serde_json::from_str::<Bytes>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dag_cbor_is_a_byte_string() {
        let cbor = serde_ipld_dagcbor::to_vec(&Bytes(vec![1, 2])).unwrap();
        assert_eq!(cbor, [0x42, 1, 2]);
        assert_eq!(serde_ipld_dagcbor::from_slice::<Bytes>(&cbor).unwrap().0, [1, 2]);
    }
}
