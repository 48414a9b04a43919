//! Commits whose GroupInfo has a large tree of leaves that nobody declared.
//!
//! A member makes, offline and once, a commit that adds hundreds of leaves of its own key packages, and sends the commit with
//! one declared addition, again and again. The bound: the number of leaves is compared with the declared members before any
//! signature of the tree is verified, the work runs under a semaphore of the cores, and an account has a budget of it.

use std::sync::Arc;

use anyhow::{Context, ensure};
use rookery_client::mls::Staged;
use serde_json::json;

use super::Attack;
use super::raw_device::{bytes, claim, client_of, raw_device, token};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("large_trees", |target| Box::pin(run(target)));

const WORKERS: u16 = 4;
const COMMIT: &str = "blue.catbird.mls.addMembers";
const CREATE: &str = "blue.catbird.mls.createConvo";
/// Leaves of the long form, and of the short form, which has little time to make them.
const LEAVES: [usize; 2] = [400, 80];
/// Counts refusals for another reason than the tree.
const OTHER: u16 = 499;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let leaves = LEAVES[usize::from(target.lasts.as_secs() < 10)];
    let (device, seed) = raw_device(&target).await?;
    let device = Arc::new(device);
    let did = device.did.clone();
    // Off the runtime's threads: key packages of hundreds of clients take their time.
    let made = tokio::task::spawn_blocking(move || staged(&did, seed, leaves)).await??;
    let (group_info, staged) = made;
    let created = json!({
        "idem": rookery_client::idem(), "groupInfo": bytes(&group_info),
        "handshakePolicy": "opaque",
    });
    let reply =
        target.call(0, CREATE, "", Some(token(&target, &device, CREATE)), Some(serde_json::to_vec(&created)?)).await;
    let reply = reply.context("the conversation was not created")?;
    ensure!(reply.status == 200, "creating a conversation: {} {}", reply.status, String::from_utf8_lossy(&reply.body));
    let stream =
        serde_json::from_slice::<serde_json::Value>(&reply.body)?["stream"].as_str().context("no stream")?.to_owned();
    // One addition is as it should be, so that the commit is refused for its tree alone.
    let puppet = target.person("puppet").await?;
    let claimed = claim(&target, &device, &stream, &puppet).await?;
    let add = json!({
        "account": puppet.did().to_string(), "device": claimed["device"], "ref": claimed["ref"],
    });
    let (staged, add) = (Arc::new(staged), Arc::new(add));
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, _| {
        let (target, device, staged, stream, add) =
            (Arc::clone(&target), Arc::clone(&device), Arc::clone(&staged), stream.clone(), Arc::clone(&add));
        async move {
            let body = json!({
                "stream": stream, "idem": rookery_client::idem(), "commit": bytes(&staged.commit),
                "groupInfo": bytes(&staged.group_info), "welcome": bytes(staged.welcome.as_deref().unwrap_or_default()),
                "adds": [&*add],
            });
            let body = serde_json::to_vec(&body).ok()?;
            let token = token(&target, &device, COMMIT);
            let reply = target.call(worker, COMMIT, "", Some(token), Some(body)).await?;
            let is_other = reply.status == 400 && !String::from_utf8_lossy(&reply.body).contains("MembershipMismatch");
            Some(if is_other { OTHER } else { reply.status })
        }
    })
    .await;
    ensure!(tally.of(400) > 0 && tally.of(200) == 0 && tally.of(500) == 0 && tally.of(OTHER) == 0, "{tally}");
    ensure!(tally.calls() > 4, "only {tally}");
    Ok(format!("{leaves} leaves; {tally}"))
}

/// The GroupInfo of a new group, and a commit on top that adds so many leaves.
fn staged(did: &rookery::types::Did, seed: [u8; 32], leaves: usize) -> anyhow::Result<(Vec<u8>, Staged)> {
    let mut client = client_of(did, seed)?;
    let (group, group_info) = client.create_group()?;
    let packages = (0..leaves).map(|_| Ok(client_of(did, rand::random())?.key_package(false)?));
    let packages = packages.collect::<anyhow::Result<Vec<_>>>()?;
    let staged = client.stage_change(&group, &packages, &[])?;
    Ok((group_info, staged))
}
