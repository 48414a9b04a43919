//! The devices of a person's account: the chain that vouches for them, and how a new one comes into it.
//!
//! Invariant: what the server says about devices counts only as far as the chain says it too. A chain once seen may grow,
//! or be followed by one of a later generation; anything else is an error.

use super::groups::idem;
use super::{Person, PersonError};
use crate::identity::{ChainHead, DeviceChain, DeviceKeys, DeviceLink, PairingClaim};
use crate::lexicon::Nothing;
use crate::lexicon::account::approve_pairing::{self, ApprovePairing};
use crate::lexicon::account::claim_pairing::{self, ClaimPairing};
use crate::lexicon::account::create_pairing::{self, CreatePairing};
use crate::lexicon::account::list_devices::{self, ListDevices};
use crate::lexicon::account::register_device;
use crate::lexicon::account::revoke_device::{self, RevokeDevice};
use crate::types::{Bytes, DeviceId, Did, Hash};

/// What a new device shows: a device of the account reads it from its screen.
#[derive(Clone, Debug)]
pub struct PairingCode {
    pub pairing: String,
    pub keys: DeviceKeys,
}

/// Checks what listDevices answered against its own links: every certified device stands in the chain, and no other.
pub fn read_chain(account: &Did, listed: &list_devices::Output) -> Result<DeviceChain, PersonError> {
    let head = listed.chain.as_ref().ok_or(PersonError::Chain("there is none"))?;
    let generation = u32::try_from(head.generation).map_err(|_| PersonError::Chain("its generation is too great"))?;
    let hash = Hash::from_slice(head.hash.as_slice()).ok_or(PersonError::Chain("its hash is no hash"))?;
    let links = listed.devices.iter().flat_map(|device| device.certificate.iter().chain(&device.revocation));
    let links = links.map(|link| DeviceLink::decode(link.as_slice())).collect::<Result<Vec<_>, _>>()?;
    let chain = DeviceChain::gather(account, generation, &links)?;
    if !chain.went_through(&ChainHead { generation, seq: head.seq, hash }) {
        return Err(PersonError::Chain("its links do not lead to its head"));
    }
    for device in &listed.devices {
        let id = DeviceId::parse(&device.device)?;
        let keys = chain.device(&id).filter(|keys| keys.key().raw() == device.public_key.0);
        // A device may be revoked without a link; that it is certified needs one.
        if device.state == "certified" && keys.is_none() {
            return Err(PersonError::Chain("a device is called certified and does not stand in it"));
        }
    }
    Ok(chain)
}

impl Person {
    /// What a certificate of this device lists.
    pub fn keys(&self) -> DeviceKeys {
        DeviceKeys::of(self.signer.key().public())
    }

    /// The account's device chain, checked, and compared with the one that this device saw before.
    pub async fn device_chain(&self) -> Result<DeviceChain, PersonError> {
        let chain = read_chain(self.did(), &self.query::<ListDevices>(&Nothing {}).await?)?;
        let mut state = self.state.lock().await;
        if let Some(seen) = &state.chain {
            let grew = chain.went_through(seen);
            if !grew && chain.head().generation <= seen.generation {
                return Err(PersonError::Chain("it is another one than before"));
            }
        }
        state.chain = Some(chain.head());
        Ok(chain)
    }

    /// A certificate for another device of the account: the chain's next link, signed by this one.
    pub async fn vouch_for(&self, keys: &DeviceKeys) -> Result<Bytes, PersonError> {
        let link = self.device_chain().await?.certify(self.signer.key(), keys)?;
        Ok(Bytes(link.encode()?))
    }

    /// Registers with a certificate.
    pub async fn register_vouched(&self, certificate: Bytes) -> Result<register_device::Output, PersonError> {
        self.register_by(Some(certificate)).await
    }

    /// Ends a device of the account by a link of the chain.
    pub async fn revoke(&self, device: &DeviceId) -> Result<(), PersonError> {
        let link = self.device_chain().await?.revoke(self.signer.key(), device)?;
        let input = revoke_device::Input { device: device.to_string(), revocation: Some(Bytes(link.encode()?)) };
        self.procedure::<RevokeDevice>(&input).await?;
        Ok(())
    }

    /// Opens a pairing for this device, which no account knows yet.
    pub async fn begin_pairing(&self) -> Result<PairingCode, PersonError> {
        let keys = self.keys();
        let input = create_pairing::Input {
            public_key: Bytes(keys.key().raw()),
            alg: Some(keys.key().alg().to_owned()),
            kind: "app".to_owned(),
            name: None,
            platform: Some("demo".to_owned()),
        };
        let answer = self.service.procedure::<CreatePairing>(&input, || None).await?;
        Ok(PairingCode { pairing: answer.pairing, keys })
    }

    /// Vouches for the device that shows this code, and leaves `payload`, which the caller has sealed to it.
    pub async fn approve_pairing(&self, code: &PairingCode, payload: &[u8]) -> Result<(), PersonError> {
        let certificate = self.vouch_for(&code.keys).await?;
        let payload = Bytes::from(payload);
        let input = approve_pairing::Input { pairing: code.pairing.clone(), certificate, payload };
        self.procedure::<ApprovePairing>(&input).await?;
        Ok(())
    }

    /// What this device claims with, under a fresh name.
    pub fn claim_of(&self, code: &PairingCode) -> Result<claim_pairing::Input, PersonError> {
        let (pairing, idem) = (code.pairing.clone(), idem());
        let claim = PairingClaim::new(&pairing, self.service.did(), &idem);
        let proof = claim.sign(self.signer.key()).map_err(|_| PersonError::Chain("a claim cannot be signed"))?;
        Ok(claim_pairing::Input { proof: Bytes(proof.to_vec()), pairing, idem })
    }

    /// Takes what was left, and sees for itself that the chain vouches for this device now.
    pub async fn claim_pairing(&self, code: &PairingCode) -> Result<claim_pairing::Output, PersonError> {
        let input = self.claim_of(code)?;
        let answer = self.service.procedure::<ClaimPairing>(&input, || None).await?;
        if answer.account != *self.did() || self.device_chain().await?.device(self.device()).is_none() {
            return Err(PersonError::Chain("it does not vouch for the device that was paired"));
        }
        self.state.lock().await.account_stream = Some(answer.stream.clone());
        Ok(answer)
    }
}
