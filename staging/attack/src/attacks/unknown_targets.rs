//! Look-ups of accounts that the server has never seen, by an account that may ask.
//!
//! One account names 20 new DIDs in each claim and in each look at key packages: 24,000 fetches a minute without a bound. The
//! bound: every first look-up takes from the budgets of first fetches, whoever asks.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use rookery::identity::Curve;
use rookery_testkit::{Form, Identity};
use serde_json::json;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack =
    Attack::new("unknown_targets", |target| Box::pin(run(target))).with(&[("FEDERATION", "open")]);

const WORKERS: u16 = 8;
const CLAIM: &str = "blue.catbird.mls.claimKeyPackages";
const LOOK: &str = "blue.catbird.mls.getKeyPackages";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let mallory = target.person("mallory").await?;
    let stream = mallory.create_convo().await?;
    let (directory, began, until) = (Arc::clone(&target), Instant::now(), target.begins());
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, mallory, stream) = (Arc::clone(&target), Arc::clone(&mallory), stream.clone());
        async move {
            let mut accounts = Vec::new();
            for _ in 0..20 {
                let account = Identity::plc(Curve::P256, Form::Multikey).ok()?;
                target.directory.add(&account);
                accounts.push(account.did.to_string());
            }
            let reply = if call % 2 == 0 {
                let body = json!({
                    "claimId": rookery_client::idem(), "stream": stream, "targets": accounts, "cipherSuites": [1],
                });
                target
                    .call(worker, CLAIM, "", Some(mallory.token(CLAIM)), Some(serde_json::to_vec(&body).ok()?))
                    .await?
            } else {
                let query = accounts.iter().map(|did| format!("accounts={did}")).collect::<Vec<_>>().join("&");
                target.call(worker, LOOK, &format!("?{query}"), Some(mallory.token(LOOK)), None).await?
            };
            Some(reply.status)
        }
    })
    .await;
    ensure!(tally.calls() > 3 && tally.of(500) == 0, "{tally}");
    // `RATE_LOOKUP` is 300 in 60 s; beside it the directory is asked for the few accounts that call.
    let (asked, budget) = (directory.directory.asked_in_all(), 300 + 5 * began.elapsed().as_secs() + 50);
    ensure!(asked as u64 <= budget, "{asked} documents were fetched, of {budget}");
    Ok(format!("{tally}; {asked} documents fetched"))
}
