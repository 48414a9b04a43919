//! Signed statements (FEDERATION section 4): what convinces a third party. Invariant: a signature covers
//! `label ‖ 0x00 ‖ statement`, is strict, and its key's id holds the tag of the very key that verifies.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::keys::{Curve, Malleability, PublicKey};
use super::signing::SigningKey;
use crate::types::{Bytes, base32_lower};

/// Characters of a key tag.
const TAG_CHARS: usize = 8;

/// `{statement, key, sig}`. `statement` is canonical DAG-CBOR, kept as first made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    pub statement: Bytes,
    /// The signer's id in the server's document, like `#checkpoint-ktr7tvtd`.
    pub key: String,
    /// 64 bytes.
    pub sig: Bytes,
}

/// The statement is not signed by that key, or not under that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the statement's signature does not hold")]
pub struct BadStatement;

impl Signed {
    pub fn sign(label: &str, statement: Vec<u8>, id: &str, key: &SigningKey) -> Self {
        let sig = key.sign(&message(label, &statement)).to_vec();
        Self { statement: Bytes(statement), key: id.to_owned(), sig: Bytes(sig) }
    }

    /// `key` is what the signer's document, or its pinned history, holds under `self.key`.
    pub fn verify(&self, label: &str, key: &PublicKey) -> Result<(), BadStatement> {
        let tagged = self.key.rsplit_once('-').is_some_and(|(_, tag)| tag == key_tag(key));
        if !tagged || !is_server_curve(key.curve()) {
            return Err(BadStatement);
        }
        let message = message(label, self.statement.as_slice());
        key.verify(&message, self.sig.as_slice(), Malleability::Refused).map_err(|_| BadStatement)
    }
}

/// What a signature under this label covers.
pub(super) fn message(label: &str, statement: &[u8]) -> Vec<u8> {
    [label.as_bytes(), &[0], statement].concat()
}

/// The first 8 characters of lower-case base32 of SHA-256 of the raw public key.
pub fn key_tag(key: &PublicKey) -> String {
    let mut tag = base32_lower(&Sha256::digest(key.raw()));
    tag.truncate(TAG_CHARS);
    tag
}

/// Servers sign with Ed25519 or P-256; any other key of theirs is ignored.
pub const fn is_server_curve(curve: Curve) -> bool {
    matches!(curve, Curve::Ed25519 | Curve::P256)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::{Signed, key_tag};
    use crate::identity::keys::{Curve, PublicKey};
    use crate::identity::signing::SigningKey;
    use crate::types::Hash;

    const LABEL: &str = "rookery checkpoint v1";

    fn test_key(text: &str) -> SigningKey {
        SigningKey::from_bytes(Curve::Ed25519, Hash::of(text.as_bytes()).as_slice()).unwrap()
    }

    #[test]
    fn key_ids_are_those_of_the_test_vectors() {
        for (text, multikey, tag) in [
            ("peer test key b.example", "z6Mkr6sMxacHiEaYxj1iHUEfB3pA6UvjeHTSubfr8aqLMxqL", "loyywn2q"),
            ("checkpoint test key a.example", "z6MkkHFUb3bFX1fYr45swwSNWHpeBZJ9GHG6qptt45e2Buxb", "ktr7tvtd"),
        ] {
            let key = test_key(text).public();
            assert_eq!((key.multikey().as_str(), key_tag(&key).as_str()), (multikey, tag));
            assert_eq!(PublicKey::from_multikey(multikey).unwrap(), key);
        }
    }

    #[test]
    fn the_checkpoint_signature_is_that_of_the_test_vectors() {
        let statement = hex::decode(
            "a76176016373657102646861736858204418781baed697de6aee74874570a721d1fbc4528a7b040a1637d38ba60c09b064686f6d657164\
             69643a7765623a612e6578616d706c65647465726d1a6afd86c06474696d651b000001a1ee5671896673747265616d7821736377666761\
             6763737971686d646a37706265686e6a366a76696c693532663633",
        )
        .unwrap();
        let key = test_key("checkpoint test key a.example");
        let signed = Signed::sign(LABEL, statement, "#checkpoint-ktr7tvtd", &key);
        assert_eq!(
            hex::encode(&signed.sig.0),
            "f356d707971e5e142a3a0b348515750faaab330e6012652bd5612dbe9af333b79fd9dbca0a9a5230f1e024370256ca48880cbca529e79d\
             291469d59c3fc07000"
        );
        assert!(signed.verify(LABEL, &key.public()).is_ok());
    }

    /// The requests of the protocol's vectors, as far as keys go: which lines are signed is federation's business.
    #[test]
    fn the_signatures_of_requests_are_those_of_the_test_vectors() {
        const END: &str = r#"keyid="did:web:b.example#peer-loyywn2q";tag="rookery-peer-v1""#;
        let body = br#"{"stream":"scwfgagcsyqhmdj7pbehnj6jvili52f63","idem":"01JD5V8Q0M6T3N7Y2K4X9Z1ABC","ciphertext":{"$bytes":"b3BhcXVl"}}"#;
        let digest = |body: &[u8]| base64::engine::general_purpose::STANDARD.encode(Hash::of(body).as_slice());
        let call = format!(
            r#""@method": POST
"@target-uri": https://a.example/xrpc/blue.catbird.mls.sendMessage
"content-digest": sha-256=:{}:
"content-type": application/json
"x-rookery-audience": did:web:a.example
"x-rookery-actor": did:plc:ewvi7nxzyoun6zhxrhs64oiz
"x-rookery-device": d1
"@signature-params": ("@method" "@target-uri" "content-digest" "content-type" "x-rookery-audience" "x-rookery-actor" "x-rookery-device");created=1795000000;expires=1795000060;nonce="q83vEjRWeJCrze8SNFZ4kA";{END}"#,
            digest(body)
        );
        let query = format!(
            r#""@method": GET
"@target-uri": https://a.example/xrpc/blue.catbird.peer.getEntries?stream=scwfgagcsyqhmdj7pbehnj6jvili52f63&from=1&limit=100
"content-digest": sha-256=:{}:
"x-rookery-audience": did:web:a.example
"@signature-params": ("@method" "@target-uri" "content-digest" "x-rookery-audience");created=1795000000;expires=1795000060;nonce="EjRWeJCrze8SNFZ4kKvN7w";{END}"#,
            digest(b"")
        );
        let key = test_key("peer test key b.example");
        for (base, signature) in [
            (call, "OGCdT98LSwofc48W4GfQ1dWPUbWkBH3KMsF7m3D1VJ+cd5RVwPpEl7MKMgwsh6R977nsJ1/cHV9E5fvI/v5UAA=="),
            (query, "H2jHX7i8AMU+0vo3ca/2T9pjoAYsB1MZb6EAwbisz8XS/hhKGjb7xHEJ0ID5GBoFNi57zjUo0w7BjEW893QHBQ=="),
        ] {
            assert_eq!(base64::engine::general_purpose::STANDARD.encode(key.sign(base.as_bytes())), signature);
        }
    }

    #[test]
    fn another_label_statement_tag_key_or_curve_does_not_verify() {
        for curve in [Curve::Ed25519, Curve::P256] {
            let key = SigningKey::generate(curve);
            let id = format!("#checkpoint-{}", key_tag(&key.public()));
            let signed = Signed::sign(LABEL, b"statement".to_vec(), &id, &key);
            assert!(signed.verify(LABEL, &key.public()).is_ok());
            assert!(signed.verify("rookery key v1", &key.public()).is_err());
            assert!(signed.verify(LABEL, &SigningKey::generate(curve).public()).is_err());
            let other = Signed { statement: b"statemenT".to_vec().into(), ..signed.clone() };
            assert!(other.verify(LABEL, &key.public()).is_err());
            let renamed = Signed { key: "#checkpoint-aaaaaaaa".to_owned(), ..signed.clone() };
            assert!(renamed.verify(LABEL, &key.public()).is_err());
            // label ‖ 0x00 ‖ statement: the border cannot be shifted.
            let shifted = Signed { statement: b"v1\0statement".to_vec().into(), ..signed };
            assert!(shifted.verify("rookery checkpoint", &key.public()).is_err());
        }
        let key = SigningKey::generate(Curve::K256);
        let id = format!("#checkpoint-{}", key_tag(&key.public()));
        assert!(Signed::sign(LABEL, Vec::new(), &id, &key).verify(LABEL, &key.public()).is_err());
    }
}
