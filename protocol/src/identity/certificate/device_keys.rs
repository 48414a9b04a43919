//! The keys of one device. Invariant: they are points of their curves, where we know the curve, and none is there twice.

use std::collections::HashSet;

use super::BadLink;
use crate::identity::keys::{Curve, PublicKey};
use crate::types::{Bytes, DeviceId, Malformed};

/// Further MLS signature keys of one device.
const MLS_KEYS: usize = 8;

/// The keys of one device: its own, from which its id follows, and further ones for its MLS leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeys {
    key: PublicKey,
    mls_keys: Vec<Bytes>,
}

impl DeviceKeys {
    /// `mls_keys` are raw, as leaves carry them (RFC 9420 section 5.1.1): 32 bytes Ed25519, 57 Ed448, 65, 97 or 133
    /// bytes of an uncompressed point. At most 8, none twice, none the device's own.
    pub fn new(key: PublicKey, mls_keys: Vec<Bytes>) -> Result<Self, Malformed> {
        if mls_keys.len() > MLS_KEYS {
            return Err(Malformed::new("mlsKeys", "expected 8 keys at most"));
        }
        let keys = Self { key, mls_keys };
        let mut seen = HashSet::new();
        if !keys.all().all(|key| seen.insert(key)) {
            return Err(Malformed::new("mlsKeys", "a key is there twice, or is the device's own"));
        }
        keys.mls_keys.iter().try_for_each(|key| mls_key(key.as_slice()))?;
        Ok(keys)
    }

    /// Without further MLS keys.
    pub fn of(key: PublicKey) -> Self {
        Self { key, mls_keys: Vec::new() }
    }

    pub fn device(&self) -> DeviceId {
        self.key.device_id()
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn mls_keys(&self) -> &[Bytes] {
        &self.mls_keys
    }

    /// Its own and the further ones, raw.
    pub(super) fn all(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::once(self.key.raw()).chain(self.mls_keys.iter().map(|key| key.0.clone()))
    }

    pub(super) fn read(
        alg: &str,
        public_key: &Bytes,
        mls_keys: Vec<Bytes>,
        device: &DeviceId,
    ) -> Result<Self, BadLink> {
        let curve = Curve::from_alg(alg).ok_or(BadLink::Malformed)?;
        let key = PublicKey::from_raw(curve, public_key.as_slice())?;
        // Compressed, so that one key has one name.
        if key.raw() != public_key.as_slice() || key.device_id() != *device {
            return Err(BadLink::DeviceId);
        }
        Ok(Self::new(key, mls_keys)?)
    }
}

fn mls_key(raw: &[u8]) -> Result<(), Malformed> {
    match (raw.len(), raw.first()) {
        (32, _) => PublicKey::from_raw(Curve::Ed25519, raw).map(|_| ()),
        (65, Some(4)) => PublicKey::from_raw(Curve::P256, raw).map(|_| ()),
        (57, _) | (97 | 133, Some(4)) => Ok(()),
        _ => Err(Malformed::new("mlsKeys", "expected 32, 57, 65, 97 or 133 bytes")),
    }
}
