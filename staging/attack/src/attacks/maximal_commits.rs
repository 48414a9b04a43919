//! Commits of 4 MiB, and then one page of them.
//!
//! A member makes commits whose ciphertext is padded to nearly 4 MiB: a server that sees only declared changes reads no more
//! than the frame. Then every reader asks for pages of 100 entries. The bound: a page ends before 4 MiB of content, with one
//! entry at least.

use std::sync::Arc;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;

use super::Attack;
use super::raw_device::{accepted, bytes, claim, client_of, raw_device, token};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("maximal_commits", |target| Box::pin(run(target)));

const READERS: u16 = 8;
const COMMITS: [usize; 2] = [40, 6];
const COMMIT_BYTES: usize = 4_000_000;
/// Commits that add or remove one puppet: a stranger gets few one-time key packages of an account, and commits may use a
/// package of last resort ten times.
const OF_ONE_PUPPET: usize = 20;
/// What a page may have, as JSON.
const PAGE_BYTES: usize = 8 * 1024 * 1024;
const LIST: &str = "blue.catbird.event.listEvents";
const CREATE: &str = "blue.catbird.mls.createConvo";
const ADD: &str = "blue.catbird.mls.addMembers";
const REMOVE: &str = "blue.catbird.mls.removeMembers";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let commits = COMMITS[usize::from(target.lasts.as_secs() < 10)];
    let (device, seed) = raw_device(&target).await?;
    let mut puppets = Vec::new();
    for number in 0..commits.div_ceil(OF_ONE_PUPPET) {
        puppets.push(target.person(&format!("puppet {number}")).await?);
    }
    let mut client = client_of(&device.did, seed)?;
    let (group, group_info) = client.create_group()?;
    let body = json!({
        "idem": rookery_client::idem(), "groupInfo": bytes(&group_info), "handshakePolicy": "opaque",
    });
    let stream = accepted(&target, &device, CREATE, &body).await?["stream"].as_str().context("no stream")?.to_owned();
    for number in 0..commits {
        // Adds a puppet's device and removes the device again: a commit must change something.
        let puppet = &puppets[number / OF_ONE_PUPPET];
        let (nsid, packages, removed, change) = if number % 2 == 0 {
            let claimed = claim(&target, &device, &stream, puppet).await?;
            let package = claimed["keyPackage"]["$bytes"].as_str().context("no key package")?;
            let package = STANDARD_NO_PAD.decode(package.trim_end_matches('='))?;
            let add = json!({
                "account": puppet.did().to_string(), "device": claimed["device"], "ref": claimed["ref"],
            });
            (ADD, vec![package], vec![], json!({ "adds": [add] }))
        } else {
            let remove = json!({ "account": puppet.did().to_string(), "device": puppet.device().to_string() });
            (REMOVE, vec![], vec![puppet.device().clone()], json!({ "removes": [remove] }))
        };
        let staged = client.stage_change(&group, &packages, &removed)?;
        let commit = padded(&staged.commit, COMMIT_BYTES).context("the commit has another form")?;
        let mut body = change;
        body["stream"] = json!(stream);
        body["idem"] = json!(rookery_client::idem());
        body["commit"] = bytes(&commit);
        body["groupInfo"] = bytes(&staged.group_info);
        if let Some(welcome) = &staged.welcome {
            body["welcome"] = bytes(welcome);
        }
        accepted(&target, &device, nsid, &body).await.with_context(|| format!("commit {number}"))?;
        client.confirm(&group)?;
    }
    let (device, until) = (Arc::new(device), target.begins());
    let tally = wire::swarm(READERS, until, move |worker, _| {
        let (target, device) = (Arc::clone(&target), Arc::clone(&device));
        async move {
            let reply = target.call(worker, LIST, "?limit=100", Some(token(&target, &device, LIST)), None).await?;
            Some(if reply.body.len() > PAGE_BYTES { 299 } else { reply.status })
        }
    })
    .await;
    ensure!(tally.of(299) == 0, "a page has more than {PAGE_BYTES} bytes: {tally}");
    ensure!(tally.of(200) > 0, "no page was read: {tally}");
    Ok(format!("{commits} commits of {COMMIT_BYTES} bytes; {tally}"))
}

/// The PrivateMessage with a longer ciphertext, which is its last field (RFC 9420 section 6.3).
fn padded(message: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut at = 4;
    // group_id, then eight bytes of epoch and one of content type, then authenticated_data and encrypted_sender_data.
    at = after_vector(message, at)? + 9;
    at = after_vector(message, at)?;
    at = after_vector(message, at)?;
    let ciphertext = message.get(at..)?;
    let mut longer = message.get(..at)?.to_vec();
    // A length of four bytes, whose two highest bits are 10 (RFC 9000 section 16).
    longer.extend((0x8000_0000 | u32::try_from(length).ok()?).to_be_bytes());
    longer.extend(ciphertext.iter().copied().chain(std::iter::repeat(0)).take(length));
    Some(longer)
}

/// Where the vector that begins there ends.
fn after_vector(message: &[u8], at: usize) -> Option<usize> {
    let first = *message.get(at)?;
    let (length_bytes, mask) = [(1, 0x3f), (2, 0x3f), (4, 0x3f)][usize::from(first >> 6).min(2)];
    let mut length = usize::from(first & mask);
    for offset in 1..length_bytes {
        length = length << 8 | usize::from(*message.get(at + offset)?);
    }
    Some(at + length_bytes + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_padded_message_keeps_its_frame() {
        let frame = [&[0, 1, 0, 2, 2, 7, 7][..], &[0; 8], &[3, 0, 1, 9]].concat();
        let longer = padded(&[&frame[..], &[3, 1, 2, 3]].concat(), 100).unwrap();
        assert_eq!(longer.len(), frame.len() + 4 + 100);
        assert_eq!(longer[..frame.len()], frame);
        assert_eq!(after_vector(&longer, frame.len()), Some(longer.len()));
    }
}
