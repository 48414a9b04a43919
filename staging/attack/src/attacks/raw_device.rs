//! A device whose key and MLS client are in the attacker's hands: for what no honest client sends.

use std::sync::Arc;

use rookery::identity::{Curve, DeviceSigner, SigningKey, body_hash};
use rookery::lexicon::Method;
use rookery::lexicon::account::register_device::{Input, RegisterDevice};
use rookery::types::{Bytes, Clock, Did};
use rookery_client::mls::Client;

use crate::target::Target;

/// A registered device whose key this process holds, and the seed of the key.
pub async fn raw_device(target: &Arc<Target>) -> anyhow::Result<(DeviceSigner, [u8; 32])> {
    let account = target.account()?;
    let seed: [u8; 32] = rand::random();
    let key = SigningKey::from_bytes(Curve::Ed25519, &seed)?;
    let public = key.public().raw();
    let signer = DeviceSigner::new(account.did.clone(), key);
    let input = Input {
        public_key: Bytes(public),
        kind: "app".to_owned(),
        name: None,
        platform: None,
        certificate: None,
        mls_keys: None,
        invite: None,
    };
    let (audience, nsid) = (target.did.as_str(), RegisterDevice::NSID);
    let session = || std::future::ready(Ok(Some(account.service_token(audience, nsid, Clock::System.now()))));
    let proof = |body: &[u8]| signer.token(audience, nsid, Clock::System.now(), Some(&body_hash(body)));
    target.patient().procedure_proven::<RegisterDevice, _>(&input, session, proof).await?;
    Ok((signer, seed))
}

/// A token of the device for one call.
pub fn token(target: &Target, device: &DeviceSigner, nsid: &str) -> String {
    device.token(target.did.as_str(), nsid, Clock::System.now(), None)
}

/// An MLS client of the account with the key of that seed.
pub fn client_of(did: &Did, seed: [u8; 32]) -> anyhow::Result<Client> {
    let public = SigningKey::from_bytes(Curve::Ed25519, &seed)?.public().raw();
    Ok(Client::new(did.clone(), seed, public.try_into().map_err(|_| anyhow::anyhow!("no Ed25519 key"))?)?)
}
