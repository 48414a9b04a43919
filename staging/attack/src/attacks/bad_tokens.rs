//! Tokens that prove nobody.
//!
//! Half of the calls name issuers whose documents cannot be fetched, half are signed with another key than the issuer's,
//! which asks the server to fetch the document again. The bound: failed calls are counted by address and issuer, whatever
//! their status, and first and forced fetches have budgets of their own.

use std::sync::Arc;

use anyhow::ensure;
use rookery::identity::{Curve, SigningKey, service_token};
use rookery::types::{Clock, Did};

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("bad_tokens", |target| Box::pin(run(target)));

const WORKERS: u16 = 16;
const ADDRESSES: u16 = 8;
const NSID: &str = "blue.catbird.account.listDevices";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (known, key) = (target.account()?, Arc::new(SigningKey::generate(Curve::K256)));
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, known, key) = (Arc::clone(&target), Arc::clone(&known), Arc::clone(&key));
        async move {
            let dead = Did::parse(&format!("did:web:localhost%3A{}", 1 + call % 900)).ok()?;
            let issuer = if call % 2 == 0 { &dead } else { &known.did };
            let token = service_token(&key, issuer, target.did.as_str(), NSID, Clock::System.now());
            Some(target.call(worker % ADDRESSES, NSID, "", Some(token), None).await?.status)
        }
    })
    .await;
    ensure!(tally.of(401) > 0 && tally.of(200) == 0, "{tally}");
    Ok(tally.to_string())
}
