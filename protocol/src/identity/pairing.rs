//! What a new device proves when it claims its pairing.
//!
//! Invariant: a proof is good for one pairing, one server and one name of the call, and for nothing else.

use serde::Serialize;

use super::keys::{BadSignature, Malleability, PublicKey};
use super::signing::SigningKey;
use super::statement::message;
use crate::types::Did;

const LABEL: &str = "rookery pairing claim v1";

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
        Ok(message(LABEL, &statement))
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
}
