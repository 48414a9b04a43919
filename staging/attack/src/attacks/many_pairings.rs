//! Pairings that nobody finishes, from 40 addresses.
//!
//! The attackers open as many pairings as their addresses may. The bound: an address has few open pairings, and a share of
//! the places is kept for addresses that have none, so that a new device can still be paired at the end.

use std::sync::Arc;

use anyhow::{Context, ensure};
use rookery::identity::{Curve, PairingRequest, SigningKey};
use rookery::lexicon::account::create_pairing::Input;
use rookery::types::{Bytes, Clock, Did};
use rookery_testkit::Person;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("many_pairings", |target| Box::pin(run(target)));

const WORKERS: u16 = 16;
const ADDRESSES: u16 = 40;
const NSID: &str = "blue.catbird.account.createPairing";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let until = target.begins();
    let attacked = Arc::clone(&target);
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let target = Arc::clone(&attacked);
        async move {
            let body = request(&target.did).ok()?;
            let from = (worker * 3 + u16::try_from(call % 997).unwrap_or_default()) % ADDRESSES;
            Some(target.call(from, NSID, "", None, Some(body)).await?.status)
        }
    })
    .await;
    ensure!(tally.of(200) > 0, "no pairing was opened: {tally}");
    let honest = Person::new("honest device", target.account()?, target.impatient()?)?;
    honest.begin_pairing().await.context("an honest device could not open a pairing")?;
    Ok(tally.to_string())
}

/// What a device with a new key asks with.
fn request(audience: &Did) -> anyhow::Result<Vec<u8>> {
    let (key, now_s, kind) = (SigningKey::generate(Curve::Ed25519), Clock::System.now_seconds(), "app");
    let proof = PairingRequest::new(audience, now_s, kind, None, None).sign(&key)?;
    let input = Input {
        public_key: Bytes(key.public().raw()),
        alg: Some(key.public().alg().to_owned()),
        kind: kind.to_owned(),
        name: None,
        platform: None,
        issued_at: u64::try_from(now_s)?,
        proof: Bytes(proof.to_vec()),
    };
    Ok(serde_json::to_vec(&input)?)
}
