//! A device whose key and MLS client are in the attacker's hands: for what no honest client sends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rookery::identity::{Curve, DeviceSigner, SigningKey, body_hash};
use rookery::lexicon::Method;
use rookery::lexicon::account::register_device::{Input, RegisterDevice};
use rookery::types::{Bytes, Clock, Did};
use rookery_client::mls::Client;
use rookery_testkit::Person;
use serde_json::{Value, json};

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

/// Bytes as JSON has them.
pub fn bytes(bytes: &[u8]) -> Value {
    json!({ "$bytes": STANDARD_NO_PAD.encode(bytes) })
}

/// The answer of a call that must succeed; while a budget refuses the call, the call is made again.
pub async fn accepted(target: &Target, device: &DeviceSigner, nsid: &str, body: &Value) -> anyhow::Result<Value> {
    let body_bytes = serde_json::to_vec(body)?;
    for _ in 0..20 {
        let reply = target.call(0, nsid, "", Some(token(target, device, nsid)), Some(body_bytes.clone())).await;
        let reply = reply.with_context(|| format!("{nsid} was not answered"))?;
        match reply.status {
            200 => return Ok(serde_json::from_slice(&reply.body)?),
            429 | 503 => tokio::time::sleep(Duration::from_millis(300)).await,
            status => bail!("{nsid}: {status} {}", String::from_utf8_lossy(&reply.body)),
        }
    }
    bail!("{nsid} was refused for too long")
}

/// A key package of this person, claimed for the stream.
pub async fn claim(target: &Target, device: &DeviceSigner, stream: &str, person: &Person) -> anyhow::Result<Value> {
    let body = json!({
        "claimId": rookery_client::idem(), "stream": stream, "targets": [person.did().to_string()], "cipherSuites": [1],
    });
    let answer = accepted(target, device, "blue.catbird.mls.claimKeyPackages", &body).await?;
    Ok(answer["targets"][0]["packages"][0].clone())
}
