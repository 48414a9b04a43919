//! The devices of an account, and the chain that vouches for them.
//!
//! Invariant: what the server says about devices counts only as far as the chain says it too. A chain once seen may grow,
//! or be followed by one of a later generation; anything else is an error.

use rookery_protocol::identity::{ChainHead, DeviceChain, DeviceKeys, DeviceLink};
use rookery_protocol::lexicon::Nothing;
use rookery_protocol::lexicon::account::list_devices::{self, ListDevices};
use rookery_protocol::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery_protocol::types::{Bytes, DeviceId, Did, Hash};

use crate::account::Account;
use crate::error::ClientError;
use crate::session::Session;

/// Checks what listDevices answered against its own links: every certified device stands in the chain, and no other.
pub fn read_chain(account: &Did, listed: &list_devices::Output) -> Result<DeviceChain, ClientError> {
    let head = listed.chain.as_ref().ok_or(ClientError::Chain("there is none"))?;
    let generation = u32::try_from(head.generation).map_err(|_| ClientError::Chain("its generation is too great"))?;
    let hash = Hash::from_slice(head.hash.as_slice()).ok_or(ClientError::Chain("its hash is no hash"))?;
    let links = listed.devices.iter().flat_map(|device| device.certificate.iter().chain(&device.revocation));
    let links = links.map(|link| DeviceLink::decode(link.as_slice())).collect::<Result<Vec<_>, _>>()?;
    let chain = DeviceChain::gather(account, generation, &links)?;
    if !chain.went_through(&ChainHead { generation, seq: head.seq, hash }) {
        return Err(ClientError::Chain("its links do not lead to its head"));
    }
    for device in &listed.devices {
        let id = DeviceId::parse(&device.device)?;
        let keys = chain.device(&id).filter(|keys| keys.key().raw() == device.public_key.0);
        // A device may be revoked without a link; that it is certified needs one.
        if device.state == "certified" && keys.is_none() {
            return Err(ClientError::Chain("a device is called certified and does not stand in it"));
        }
    }
    Ok(chain)
}

impl<A: Account> Session<A> {
    /// What a certificate of this device lists.
    pub fn keys(&self) -> DeviceKeys {
        DeviceKeys::of(self.signer.key().public())
    }

    /// The account's device chain, checked, and compared with the one that this device saw before.
    pub async fn device_chain(&self) -> Result<DeviceChain, ClientError> {
        let chain = read_chain(self.did(), &self.query::<ListDevices>(&Nothing {}).await?)?;
        let mut kept = self.kept.lock().await;
        if let Some(seen) = &kept.chain {
            let grew = chain.went_through(seen);
            if !grew && chain.head().generation <= seen.generation {
                return Err(ClientError::Chain("it is another one than before"));
            }
        }
        kept.chain = Some(chain.head());
        Ok(chain)
    }

    /// A certificate for another device of the account: the chain's next link, signed by this one.
    pub async fn vouch_for(&self, keys: &DeviceKeys) -> Result<Bytes, ClientError> {
        let link = self.device_chain().await?.certify(self.signer.key(), keys)?;
        Ok(Bytes(link.encode()?))
    }

    /// Ends a device of the account by a link of the chain.
    pub async fn revoke(&self, device: &DeviceId) -> Result<(), ClientError> {
        let link = self.device_chain().await?.revoke(self.signer.key(), device)?;
        let input = revoke_device::Input { device: device.to_string(), revocation: Some(Bytes(link.encode()?)) };
        self.procedure::<RevokeDevice>(&input).await?;
        Ok(())
    }
}
