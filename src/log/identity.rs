use uuid::Uuid;

use super::Error;
use super::chain::{NotCanonical, encode};
use crate::types::{DeviceId, Did, Hash, Idem, Refusal};

/// The author of a call: a device of an account, with the keys of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub account_id: i64,
    pub device_row: i64,
    pub did: Did,
    pub device: DeviceId,
}

/// Whether a device and its account may act at this moment. A call may have been authorized before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorState {
    Active,
    DeviceRevoked,
    AccountSuspended,
}

impl AuthorState {
    pub(super) fn of(revoked: bool, suspended: bool) -> Self {
        match (revoked, suspended) {
            (true, _) => Self::DeviceRevoked,
            (false, true) => Self::AccountSuspended,
            (false, false) => Self::Active,
        }
    }

    pub(super) fn judge(self) -> Result<(), Error> {
        if self == Self::Active { Ok(()) } else { Err(Error::AuthorEnded(self)) }
    }
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

/// The name of a call was used for another request.
pub(super) fn identity_conflict() -> Refusal {
    Refusal::new("IdempotencyConflict", "this idem was used before, with another request")
}
