//! The keys of one device. Invariant: they are points of their curves, none appears twice, and each further key has
//! signed that it belongs to this device of this account: no account can register a key that it does not hold.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::BadLink;
use crate::identity::keys::{BadSignature, Curve, Malleability, PublicKey};
use crate::identity::signing::SigningKey;
use crate::identity::statement::message;
use crate::types::{Bytes, DeviceId, Did, Malformed};

/// Further MLS signature keys of one device.
const MLS_KEYS: usize = 8;
/// The label under which a further key signs.
const MLS_KEY_LABEL: &str = "rookery mls key v1";

/// A further MLS signature key of a device, with its proof that it belongs to the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MlsKey {
    /// Raw, as leaves carry it (RFC 9420 section 5.1.1): 32 bytes Ed25519, or 65 bytes of an uncompressed P-256 point.
    pub key: Bytes,
    /// The proof: 64 bytes over `label ‖ 0x00 ‖ {v: 1, account, device}` in canonical DAG-CBOR: R‖S with low S, or RFC
    /// 8032.
    pub proof: Bytes,
}

#[derive(Serialize)]
struct Belonging<'a> {
    v: u8,
    account: &'a Did,
    device: &'a DeviceId,
}

impl MlsKey {
    /// The public half of `key`, with its proof for that device. K-256 signs no leaves.
    pub fn prove(key: &SigningKey, account: &Did, device: &DeviceId) -> Result<Self, BadSignature> {
        let raw = match key.public() {
            PublicKey::P256(point) => point.to_encoded_point(false).as_bytes().to_vec(),
            PublicKey::Ed25519(point) => point.to_bytes().to_vec(),
            PublicKey::K256(_) => return Err(BadSignature),
        };
        let proof = key.sign(&belonging(account, device)?).to_vec();
        Ok(Self { key: Bytes(raw), proof: Bytes(proof) })
    }

    fn public(&self) -> Result<PublicKey, Malformed> {
        let raw = self.key.as_slice();
        match (raw.len(), raw.first()) {
            (32, _) => PublicKey::from_raw(Curve::Ed25519, raw),
            (65, Some(4)) => PublicKey::from_raw(Curve::P256, raw),
            _ => Err(Malformed::new("mlsKeys", "expected 32 bytes of Ed25519 or 65 of an uncompressed P-256 point")),
        }
    }

    fn verify(&self, account: &Did, device: &DeviceId) -> Result<(), BadLink> {
        let signed = belonging(account, device).map_err(|_| BadLink::Malformed)?;
        self.public()?.verify(&signed, self.proof.as_slice(), Malleability::Refused).map_err(|_| BadLink::MlsKey)
    }
}

fn belonging(account: &Did, device: &DeviceId) -> Result<Vec<u8>, BadSignature> {
    let statement = serde_ipld_dagcbor::to_vec(&Belonging { v: 1, account, device }).map_err(|_| BadSignature)?;
    Ok(message(MLS_KEY_LABEL, &statement))
}

/// The keys of one device: its own, from which its id follows, and further ones for its MLS leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceKeys {
    key: PublicKey,
    mls_keys: Vec<MlsKey>,
}

impl DeviceKeys {
    /// Checks that there are at most 8 further keys, all different, and none equal to the device's own.
    /// [`Self::verify`] checks their proofs.
    pub fn new(key: PublicKey, mls_keys: Vec<MlsKey>) -> Result<Self, Malformed> {
        if mls_keys.len() > MLS_KEYS {
            return Err(Malformed::new("mlsKeys", "expected 8 keys at most"));
        }
        let keys = Self { key, mls_keys };
        let mut seen = HashSet::new();
        if !keys.all().all(|key| seen.insert(key)) {
            return Err(Malformed::new("mlsKeys", "a key is there twice, or is the device's own"));
        }
        keys.mls_keys.iter().try_for_each(|key| key.public().map(|_| ()))?;
        Ok(keys)
    }

    /// Without further MLS keys.
    pub fn of(key: PublicKey) -> Self {
        Self { key, mls_keys: Vec::new() }
    }

    /// Verifies that each further key has signed that it belongs to this device of that account: [`BadLink::MlsKey`].
    pub fn verify(&self, account: &Did) -> Result<(), BadLink> {
        let device = self.device();
        self.mls_keys.iter().try_for_each(|key| key.verify(account, &device))
    }

    pub fn device(&self) -> DeviceId {
        self.key.device_id()
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn mls_keys(&self) -> &[MlsKey] {
        &self.mls_keys
    }

    /// Its own and the further ones, raw.
    pub(super) fn all(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        std::iter::once(self.key.raw()).chain(self.mls_keys.iter().map(|one| one.key.0.clone()))
    }

    pub(super) fn read(
        alg: &str,
        public_key: &Bytes,
        mls_keys: Vec<MlsKey>,
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
