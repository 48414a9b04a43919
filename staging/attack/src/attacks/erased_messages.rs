//! Members who leave and have thousands of messages erased.
//!
//! Several members of one conversation leave with `erase` at once, after one of them wrote most of the conversation. The bound:
//! erasing is a job in steps, so that no transaction holds the horizon of all readers, and the call answers at once.

use std::sync::Arc;

use anyhow::ensure;
use rookery::types::Did;
use serde_json::json;

use super::Attack;
use super::filling::fill;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("erased_messages", |target| Box::pin(run(target)));

const MESSAGES: [usize; 2] = [1000, 150];
const MEMBERS: u16 = 4;
const LEAVE: &str = "blue.catbird.mls.leaveConvo";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let founder = target.person("founder").await?;
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(target.person(&format!("member {number}")).await?);
    }
    let stream = founder.create_convo().await?;
    let dids: Vec<Did> = members.iter().map(|member| member.did().clone()).collect();
    founder.add_members(&stream, &dids).await?;
    // All join first: a joining client reads the backlog in order, and `fill` sends messages out of order.
    for member in &members {
        member.arrive(&stream).await?;
    }
    for member in &members {
        fill(&target, member, &stream, messages / usize::from(MEMBERS), 500).await?;
    }
    let (members, until) = (Arc::new(members), target.begins());
    let attackers = Arc::clone(&target);
    let tally = wire::burst(MEMBERS, move |number| {
        let (target, member, stream) =
            (Arc::clone(&attackers), Arc::clone(&members[usize::from(number)]), stream.clone());
        async move {
            let body = json!({ "stream": stream, "idem": rookery_client::idem(), "erase": true });
            let body = serde_json::to_vec(&body).ok()?;
            Some(target.call(number, LEAVE, "", Some(member.token(LEAVE)), Some(body)).await?.status)
        }
    })
    .await;
    // The job goes on after the answer.
    tokio::time::sleep_until(until.into()).await;
    ensure!(tally.of(200) == usize::from(MEMBERS), "leaving failed: {tally}");
    Ok(format!("{messages} messages of {MEMBERS} members erased"))
}
