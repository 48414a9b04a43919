//! Device chains that are reset again and again.
//!
//! Ten accounts that share a conversation revoke their only device and register another, by service tokens alone, without a
//! pause. The bound: an account has few resets a day, its devices are counted with the revoked ones, and notices to those
//! who share a stream are coalesced.

use std::sync::Arc;

use anyhow::ensure;
use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::RevokeDevice;
use rookery::types::Did;
use rookery_testkit::{AccountToken, Person};
use serde_json::json;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("device_resets", |target| Box::pin(run(target)));

const ACCOUNTS: u16 = 10;
/// New chains that an account may begin in a day, after its first device was revoked.
const CHAINS_A_DAY: usize = 3;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let mut people = Vec::new();
    for number in 0..ACCOUNTS {
        people.push(target.person(&format!("member {number}")).await?);
    }
    let stream = people[0].create_convo().await?;
    let others: Vec<Did> = people[1..].iter().map(|person| person.did().clone()).collect();
    people[0].add_members(&stream, &others).await?;
    let (people, until) = (Arc::new(people), target.begins());
    let tally = wire::swarm(ACCOUNTS, until, move |worker, call| {
        let (target, people) = (Arc::clone(&target), Arc::clone(&people));
        async move {
            let person = &people[usize::from(worker)];
            if call == 0 {
                let body = serde_json::to_vec(&json!({ "device": person.device().to_string() })).ok()?;
                let token = person.service_token(RevokeDevice::NSID);
                return Some(target.call(worker, RevokeDevice::NSID, "", Some(token), Some(body)).await?.status);
            }
            let device = Person::new("next", Arc::clone(person.account()), target.impatient().ok()?).ok()?;
            let status = match device.register().await {
                Ok(_) => 200,
                Err(error) => status_of(&error),
            };
            let body = serde_json::to_vec(&json!({ "device": device.device().to_string() })).ok()?;
            let token = person.service_token(RevokeDevice::NSID);
            target.call(worker, RevokeDevice::NSID, "", Some(token), Some(body)).await?;
            Some(status)
        }
    })
    .await;
    ensure!(tally.calls() > usize::from(ACCOUNTS) && tally.of(500) == 0, "{tally}");
    ensure!(
        tally.of(200) <= usize::from(ACCOUNTS) * (1 + CHAINS_A_DAY),
        "more than {CHAINS_A_DAY} new chains: {tally}"
    );
    Ok(tally.to_string())
}

fn status_of(error: &rookery_client::ClientError) -> u16 {
    match error {
        rookery_client::ClientError::Call(error) => error.refused().map_or(0, |refused| refused.status),
        _ => 0,
    }
}
