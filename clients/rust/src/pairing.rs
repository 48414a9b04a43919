//! How a new device comes into the account's chain: it shows a code, a device of the account vouches for it, it claims.
//!
//! Invariant: nothing is taken for done on the server's word: the chain must vouch for the device that was paired.

use rookery_protocol::identity::{DeviceKeys, PairingClaim, PairingRequest};
use rookery_protocol::lexicon::account::approve_pairing::{self, ApprovePairing};
use rookery_protocol::lexicon::account::claim_pairing::{self, ClaimPairing};
use rookery_protocol::lexicon::account::create_pairing::{self, CreatePairing};
use rookery_protocol::types::Bytes;

use crate::account::Account;
use crate::error::ClientError;
use crate::idem;
use crate::session::Session;

/// What a new device shows: a device of the account reads it from its screen.
#[derive(Clone, Debug)]
pub struct PairingCode {
    pub pairing: String,
    pub keys: DeviceKeys,
}

impl<A: Account> Session<A> {
    /// Opens a pairing for this device, which no account knows yet.
    pub async fn begin_pairing(&self) -> Result<PairingCode, ClientError> {
        let keys = self.keys();
        let (kind, platform, issued_at) = ("app", self.platform(), self.service.clock().now_seconds());
        let request = PairingRequest::new(self.service.did(), issued_at, kind, None, platform.as_deref());
        let proof = request.sign(self.signer.key()).map_err(|_| ClientError::Chain("a request cannot be signed"))?;
        let input = create_pairing::Input {
            public_key: Bytes(keys.key().raw()),
            alg: Some(keys.key().alg().to_owned()),
            kind: kind.to_owned(),
            name: None,
            platform,
            issued_at: u64::try_from(issued_at).unwrap_or_default(),
            proof: Bytes(proof.to_vec()),
        };
        let answer = self.service.procedure::<CreatePairing>(&input, || None).await?;
        Ok(PairingCode { pairing: answer.pairing, keys })
    }

    /// Vouches for the device that shows this code, and leaves `payload`, which the caller has sealed to it.
    pub async fn approve_pairing(&self, code: &PairingCode, payload: &[u8]) -> Result<(), ClientError> {
        let certificate = self.vouch_for(&code.keys).await?;
        let payload = Bytes::from(payload);
        let input = approve_pairing::Input { pairing: code.pairing.clone(), certificate, payload };
        self.procedure::<ApprovePairing>(&input).await?;
        Ok(())
    }

    /// What this device claims with, under a fresh name.
    pub fn claim_of(&self, code: &PairingCode) -> Result<claim_pairing::Input, ClientError> {
        let (pairing, idem) = (code.pairing.clone(), idem());
        let claim = PairingClaim::new(&pairing, self.service.did(), &idem);
        let proof = claim.sign(self.signer.key()).map_err(|_| ClientError::Chain("a claim cannot be signed"))?;
        Ok(claim_pairing::Input { proof: Bytes(proof.to_vec()), pairing, idem })
    }

    /// Takes what was left, and sees for itself that the chain vouches for this device now.
    pub async fn claim_pairing(&self, code: &PairingCode) -> Result<claim_pairing::Output, ClientError> {
        let input = self.claim_of(code)?;
        let answer = self.service.procedure::<ClaimPairing>(&input, || None).await?;
        if answer.account != *self.did() || self.device_chain().await?.device(self.device()).is_none() {
            return Err(ClientError::Chain("it does not vouch for the device that was paired"));
        }
        self.kept.lock().await.account_stream = Some(answer.stream.clone());
        Ok(answer)
    }
}
