//! Compact JWS (RFC 7515 section 3.1): three parts, base64url without padding, nothing else.
//!
//! Parsing judges the form only. What a token means is judged in `token`, its signature over the bytes as received.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::keys::{BadSignature, Malleability, PublicKey};
use super::signing::SigningKey;
use crate::types::Malformed;

/// Bytes of a whole token; a real one has about 400.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// The header members that we know.
#[derive(Clone, Deserialize, Serialize)]
pub struct Header {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typ: Option<String>,
    pub alg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kid: Option<String>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11). We understand none.
    #[serde(default, skip_serializing)]
    crit: Option<serde::de::IgnoredAny>,
}

impl Header {
    pub fn new(typ: &str, alg: &str, kid: Option<String>) -> Self {
        Self { typ: Some(typ.to_owned()), alg: alg.to_owned(), kid, crit: None }
    }
}

/// A token of the right form; nothing in it is proven.
pub struct Jws {
    pub header: Header,
    pub payload: Vec<u8>,
    signing_input: Vec<u8>,
    signature: Vec<u8>,
}

impl Jws {
    pub fn parse(token: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("token", "not a compact JWS");
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Malformed::new("token", "longer than 4096 bytes"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BAD);
        };
        let signing_input = token.as_bytes()[..header.len() + 1 + payload.len()].to_vec();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| BAD);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| BAD)?;
        if header.crit.is_some() {
            return Err(Malformed::new("token", "critical header extensions are not understood"));
        }
        Ok(Self { header, payload: decode(payload)?, signing_input, signature: decode(signature)? })
    }

    /// What is signed: the bytes as received, and the signature over them.
    pub fn signed(&self) -> (&[u8], &[u8]) {
        (&self.signing_input, &self.signature)
    }

    /// Over the raw bytes. High S is tolerated: replay memory is keyed on claims, never on the signature.
    pub fn verify(&self, key: &PublicKey) -> Result<(), BadSignature> {
        key.verify(&self.signing_input, &self.signature, Malleability::Tolerated)
    }
}

impl std::fmt::Debug for Jws {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jws")
    }
}

/// Signs `payload` as JSON. The key's `alg` must be the header's; both come from the same hand.
pub fn sign(header: &Header, payload: &serde_json::Value, key: &SigningKey) -> String {
    // A struct of texts always has a JSON form.
    let header = serde_json::json!(header).to_string();
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload.to_string()));
    let signature = key.sign(token.as_bytes());
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    token
}

#[cfg(test)]
mod tests {
    use super::{Header, Jws, MAX_TOKEN_BYTES, URL_SAFE_NO_PAD, sign};
    use crate::identity::keys::Curve;
    use crate::identity::signing::SigningKey;
    use base64::Engine as _;

    #[test]
    fn a_signed_token_parses_back_and_verifies_with_its_key_alone() {
        for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
            let key = SigningKey::generate(curve);
            let token = sign(&Header::new("JWT", curve.alg(), None), &serde_json::json!({ "a": 1 }), &key);
            let jws = Jws::parse(&token).unwrap();
            assert_eq!((jws.header.typ.as_deref(), jws.header.alg.as_str()), (Some("JWT"), curve.alg()));
            assert_eq!(jws.payload, br#"{"a":1}"#);
            assert!(jws.verify(&key.public()).is_ok());
            assert!(jws.verify(&SigningKey::generate(curve).public()).is_err());
        }
    }

    #[test]
    fn only_the_exact_compact_form_is_a_token() {
        let b64 = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let (header, payload) = (b64(r#"{"alg":"ES256"}"#), b64("{}"));
        assert!(Jws::parse(&format!("{header}.{payload}.AAAA")).is_ok());
        for token in [
            String::new(),
            "..".to_owned(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}.AAAA.AAAA"),
            format!("{header}.{payload}=.AAAA"),
            format!("{header}.{payload}.AA=="),
            format!("{header}.{payload}.AB"),
            format!("{header}.{payload}.A+/A"),
            format!(" {header}.{payload}.AAAA"),
            format!("{}.{payload}.AAAA", b64("[]")),
            format!("{}.{payload}.AAAA", b64(r#"{"typ":"JWT"}"#)),
            format!("{}.{payload}.AAAA", b64(r#"{"alg":"ES256","alg":"none"}"#)),
            format!("{}.{payload}.AAAA", b64(r#"{"alg":"ES256","crit":["b64"],"b64":false}"#)),
            format!("{header}.{payload}.{}", "A".repeat(MAX_TOKEN_BYTES)),
        ] {
            assert!(Jws::parse(&token).is_err(), "{token}");
        }
    }
}
