use uuid::Uuid;

use super::chain::{NotCanonical, encode};
use crate::types::{DeviceId, Did, Hash, Idem};

/// The author of a call: a device of an account, with the keys of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub account_id: i64,
    pub device_row: i64,
    pub did: Did,
    pub device: DeviceId,
}

/// A call's name for itself, and what it asked: the same name with the same bytes gets the first answer again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallIdentity {
    /// First 16 bytes of SHA-256 over canonical DAG-CBOR `[actor, device, method, idem]`.
    pub idem: Uuid,
    /// SHA-256 of the body bytes as received.
    pub request_hash: Hash,
}

impl CallIdentity {
    pub fn new(author: &Author, method: &str, idem: &Idem, request_hash: Hash) -> Result<Self, NotCanonical> {
        let parts = (author.did.as_str(), author.device.as_str(), method, idem.as_str());
        let digest = Hash::of(&encode(&parts, "call identity")?).0;
        let mut first = [0; 16];
        first.copy_from_slice(&digest[..16]);
        Ok(Self { idem: Uuid::from_bytes(first), request_hash })
    }
}
