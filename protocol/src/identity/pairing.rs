//! The proofs of a new device when it opens a pairing, and when it claims the pairing.
//!
//! Invariants: a request is good at one server for a few minutes, so that nobody opens a pairing for a key of somebody
//! else; a claim is good for one pairing, one server and one name of the call, and for nothing else.

use serde::Serialize;

use super::keys::{BadSignature, Malleability, PublicKey};
use super::signing::SigningKey;
use super::statement::message;
use crate::types::{Bytes, Did};

const REQUEST_LABEL: &str = "rookery pairing request v1";
const CLAIM_LABEL: &str = "rookery pairing claim v1";
/// Seconds by which the clocks of a new device and of the server may differ, and that a request may take.
const REQUEST_SKEW_S: i64 = 300;

/// Signed as canonical DAG-CBOR `{v: 1, audience, kind, issuedAt, name?, platform?}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairingRequest<'a> {
    v: u8,
    audience: &'a Did,
    kind: &'a str,
    /// Unix seconds.
    issued_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
}

impl<'a> PairingRequest<'a> {
    /// `audience` is the DID of the called server; the other fields describe the device.
    pub const fn new(
        audience: &'a Did,
        issued_at: i64,
        kind: &'a str,
        name: Option<&'a Bytes>,
        platform: Option<&'a str>,
    ) -> Self {
        Self { v: 1, audience, kind, issued_at, name, platform }
    }

    /// 64 bytes.
    pub fn sign(&self, key: &SigningKey) -> Result<[u8; 64], BadSignature> {
        Ok(key.sign(&self.message()?))
    }

    /// Whether that key signed the request within the allowed time.
    pub fn verify(&self, key: &PublicKey, proof: &[u8], now_s: i64) -> Result<(), BadSignature> {
        if self.issued_at.abs_diff(now_s) > REQUEST_SKEW_S.unsigned_abs() {
            return Err(BadSignature);
        }
        key.verify(&self.message()?, proof, Malleability::Refused)
    }

    fn message(&self) -> Result<Vec<u8>, BadSignature> {
        let statement = serde_ipld_dagcbor::to_vec(self).map_err(|_| BadSignature)?;
        Ok(message(REQUEST_LABEL, &statement))
    }
}

/// Signed as canonical DAG-CBOR `{v: 1, pairing, audience, idem}`.
#[derive(Debug, Serialize)]
pub struct PairingClaim<'a> {
    v: u8,
    pairing: &'a str,
    audience: &'a Did,
    idem: &'a str,
}

impl<'a> PairingClaim<'a> {
    /// `audience` is the DID of the server that is asked.
    pub const fn new(pairing: &'a str, audience: &'a Did, idem: &'a str) -> Self {
        Self { v: 1, pairing, audience, idem }
    }

    /// 64 bytes.
    pub fn sign(&self, key: &SigningKey) -> Result<[u8; 64], BadSignature> {
        Ok(key.sign(&self.message()?))
    }

    pub fn verify(&self, key: &PublicKey, proof: &[u8]) -> Result<(), BadSignature> {
        key.verify(&self.message()?, proof, Malleability::Refused)
    }

    fn message(&self) -> Result<Vec<u8>, BadSignature> {
        let statement = serde_ipld_dagcbor::to_vec(self).map_err(|_| BadSignature)?;
        Ok(message(CLAIM_LABEL, &statement))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::keys::Curve;

    #[test]
    fn a_proof_holds_for_its_own_claim_alone() {
        let did = |name: &str| Did::parse(&format!("did:web:{name}.example")).unwrap();
        let (here, elsewhere) = (did("here"), did("elsewhere"));
        for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
            let key = SigningKey::generate(curve);
            let claim = PairingClaim::new("pairing", &here, "idem");
            let proof = claim.sign(&key).unwrap();
            assert!(claim.verify(&key.public(), &proof).is_ok());
            assert!(claim.verify(&SigningKey::generate(curve).public(), &proof).is_err());
            for other in [
                PairingClaim::new("another", &here, "idem"),
                PairingClaim::new("pairing", &elsewhere, "idem"),
                PairingClaim::new("pairing", &here, "another"),
            ] {
                assert!(other.verify(&key.public(), &proof).is_err(), "{curve:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_request_holds_for_its_key_server_words_and_time_alone() {
        let did = |name: &str| Did::parse(&format!("did:web:{name}.example")).unwrap();
        let (here, elsewhere, name, now) = (did("here"), did("elsewhere"), Bytes(b"sealed".to_vec()), 1_795_000_000);
        for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
            let key = SigningKey::generate(curve);
            let request = PairingRequest::new(&here, now, "app", Some(&name), Some("test"));
            let proof = request.sign(&key).unwrap();
            for late in [-300, 0, 300] {
                assert!(request.verify(&key.public(), &proof, now + late).is_ok());
            }
            assert!(request.verify(&key.public(), &proof, now + 301).is_err());
            assert!(request.verify(&key.public(), &proof, now - 301).is_err());
            assert!(request.verify(&SigningKey::generate(curve).public(), &proof, now).is_err());
            for other in [
                PairingRequest::new(&elsewhere, now, "app", Some(&name), Some("test")),
                PairingRequest::new(&here, now + 1, "app", Some(&name), Some("test")),
                PairingRequest::new(&here, now, "machine", Some(&name), Some("test")),
                PairingRequest::new(&here, now, "app", None, Some("test")),
                PairingRequest::new(&here, now, "app", Some(&name), None),
            ] {
                assert!(other.verify(&key.public(), &proof, now).is_err(), "{curve:?} {other:?}");
            }
        }
    }
}
