//! Claims that make much of little.
//!
//! One account claims the key packages of another, 20 times in one call and then once in each of many calls; last-resort
//! packages never run out. The bound: a target is named once in a call, an answer has its greatest size, and no answer is
//! stored that can be made again.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::json;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("claimed_again", |target| Box::pin(run(target)));

const WORKERS: u16 = 8;
const NSID: &str = "blue.catbird.mls.claimKeyPackages";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (mallory, victim) = (target.person("mallory").await?, target.person("victim").await?);
    let stream = mallory.create_convo().await?;
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, mallory, victim, stream) =
            (Arc::clone(&target), Arc::clone(&mallory), Arc::clone(&victim), stream.clone());
        async move {
            let targets = vec![victim.did().to_string(); if call % 2 == 0 { 20 } else { 1 }];
            let body = json!({
                "claimId": rookery_client::idem(), "stream": stream, "targets": targets, "cipherSuites": [1],
            });
            let body = serde_json::to_vec(&body).ok()?;
            let reply = target.call(worker, NSID, "", Some(mallory.token(NSID)), Some(body)).await?;
            // A doubled target that is answered counts as a status of its own.
            Some(if reply.status == 200 && call % 2 == 0 { 299 } else { reply.status })
        }
    })
    .await;
    ensure!(tally.of(200) > 0, "no claim was answered: {tally}");
    ensure!(tally.of(299) == 0, "a target that is named 20 times was answered: {tally}");
    Ok(tally.to_string())
}
