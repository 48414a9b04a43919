use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Malformed, base32_lower};

/// `dev_` and the first 26 characters of base32(SHA-256(public key)): one key is one device everywhere.
///
/// To another server a device id is any string of 1 to 64 characters; ours are always of this form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceId(String);

impl DeviceId {
    /// `key` is raw: 32 bytes Ed25519, 33 bytes compressed P-256 or K-256.
    pub fn of_key(key: &[u8]) -> Self {
        let mut text = base32_lower(&Sha256::digest(key));
        text.truncate(26);
        Self(format!("dev_{text}"))
    }

    /// Ours, or another server's: 1 to 64 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Malformed::new("device", "expected 1 to 64 visible ASCII characters"))
        }
    }

    /// The id before which no other stands, for searching in ordered maps.
    pub fn least() -> Self {
        Self("!".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DeviceId {
    type Error = Malformed;
    fn try_from(text: String) -> Result<Self, Malformed> {
        Self::parse(&text)
    }
}

impl From<DeviceId> for String {
    fn from(id: DeviceId) -> Self {
        id.0
    }
}
