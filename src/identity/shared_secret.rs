//! Service tokens signed with a secret that both sides know (HS256, RFC 7518 section 3.2), for development: whoever has
//! it speaks for every account, so production does not start with one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use rookery_protocol::identity::BadSignature;
use rookery_protocol::identity::jws::{Header, Jws};

use crate::types::Malformed;

/// Keyed once, for all tokens.
#[derive(Clone)]
pub struct SharedSecret(Hmac<Sha256>);

impl SharedSecret {
    pub fn new(secret: &SecretString) -> Result<Self, Malformed> {
        let keyed = Hmac::new_from_slice(secret.expose_secret().as_bytes());
        keyed.map(Self).map_err(|_| Malformed::new("secret", "not a key"))
    }

    /// Compared in constant time.
    pub(super) fn check(&self, jws: &Jws) -> Result<(), BadSignature> {
        let (input, signature) = jws.signed();
        let mut mac = self.0.clone();
        mac.update(input);
        mac.verify_slice(signature).map_err(|_| BadSignature)
    }

    /// A token with these claims, as the developer of a client makes it.
    pub fn sign(&self, payload: &serde_json::Value) -> String {
        // A struct of texts always has a JSON form.
        let header = serde_json::json!(Header::new("JWT", "HS256", None)).to_string();
        let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload.to_string()));
        let mut mac = self.0.clone();
        mac.update(token.as_bytes());
        let signature = mac.finalize().into_bytes();
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        token
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret(…)")
    }
}
