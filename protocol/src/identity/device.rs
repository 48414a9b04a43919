//! Making tokens: what a device, and in tests and the demo a PDS, sends.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::jws::{Header, sign};
use super::signing::SigningKey;
use crate::types::{DeviceId, Did, Hash, UnixMillis};

/// The `typ` of a token that a device signed itself.
pub const DEVICE_TYP: &str = "rookery-device+jwt";

/// Through a PDS: the device's token beside the account's, for a write.
pub const DEVICE_TOKEN_HEADER: &str = "x-atproto-device-token";
/// Through a PDS: the id of the device that reads.
pub const DEVICE_HEADER: &str = "x-atproto-device";
/// Seconds that our own tokens live, as a PDS's do by default.
const LIFETIME_S: i64 = 60;

/// What the credential of a device's MLS leaf says: unique for each leaf, which mls-rs demands and MLS does not.
pub fn leaf_identity(account: &Did, device: &DeviceId) -> String {
    format!("{account}#{device}")
}

/// A device that signs for itself.
pub struct DeviceSigner {
    pub did: Did,
    pub device: DeviceId,
    key: SigningKey,
}

impl DeviceSigner {
    /// The device's id follows from its key.
    pub fn new(did: Did, key: SigningKey) -> Self {
        Self { did, device: key.public().device_id(), key }
    }

    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// A device token for one call of `nsid` at `aud` within a minute. `body_hash`: `token::body_hash` of the body,
    /// needed where the call goes through a PDS.
    pub fn token(&self, aud: &str, nsid: &str, now: UnixMillis, body_hash: Option<&str>) -> String {
        let mut payload = claims(&self.did, aud, nsid, now);
        if let Some(hash) = body_hash {
            payload["bodyHash"] = hash.into();
        }
        let header = Header::new(DEVICE_TYP, self.key.curve().alg(), Some(self.device.as_str().to_owned()));
        sign(&header, &payload, &self.key)
    }
}

impl std::fmt::Debug for DeviceSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceSigner({:?})", self.key)
    }
}

/// A service token as a PDS mints it for an account whose `#atproto` key is `key`.
pub fn service_token(key: &SigningKey, iss: &Did, aud: &str, nsid: &str, now: UnixMillis) -> String {
    sign(&Header::new("JWT", key.curve().alg(), None), &claims(iss, aud, nsid, now), key)
}

fn claims(iss: &Did, aud: &str, nsid: &str, now: UnixMillis) -> serde_json::Value {
    let now_s = now.0 / 1000;
    let jti = hex::encode(rand::random::<[u8; 16]>());
    json!({ "iat": now_s, "iss": iss, "aud": aud, "exp": now_s + LIFETIME_S, "lxm": nsid, "jti": jti })
}

/// The claim `bodyHash`: base64url SHA-256 of the body bytes.
pub fn body_hash(body: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Hash::of(body).as_slice())
}
