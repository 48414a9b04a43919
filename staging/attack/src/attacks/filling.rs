//! Conversations that are full of entries of the greatest size, for the attacks that read them.

use std::sync::Arc;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rookery_testkit::Person;
use serde_json::json;
use tokio::task::JoinSet;

use crate::target::Target;

/// Below the greatest ciphertext of a message, 983,040 bytes, with what MLS adds.
pub const PLAINTEXT: usize = 970_000;
const SEND: &str = "blue.catbird.mls.sendMessage";

/// What sending one message takes: the body of a call.
pub async fn message(person: &Person, stream: &str, bytes: usize) -> anyhow::Result<Vec<u8>> {
    let draft = person.draft_message(stream, &vec![7; bytes]).await?;
    let ciphertext = STANDARD_NO_PAD.encode(&draft.ciphertext.0);
    let body = json!({ "stream": stream, "idem": draft.idem, "ciphertext": { "$bytes": ciphertext } });
    serde_json::to_vec(&body).context("writing a message")
}

/// Sends a message from that address and answers the status.
pub async fn send(target: &Target, from: u16, person: &Person, stream: &str, bytes: usize) -> Option<u16> {
    let body = message(person, stream, bytes).await.ok()?;
    Some(target.call(from, SEND, "", Some(person.token(SEND)), Some(body)).await?.status)
}

/// A conversation of two, filled with so many messages of that size by the first of both.
pub async fn conversation(
    target: &Arc<Target>,
    messages: usize,
    bytes: usize,
) -> anyhow::Result<(String, [Arc<Person>; 2])> {
    let (mallory, member) = (target.person("mallory").await?, target.person("member").await?);
    let stream = mallory.create_convo().await?;
    mallory.add_members(&stream, std::slice::from_ref(member.did())).await?;
    fill(target, &mallory, &stream, messages, bytes).await?;
    Ok((stream, [mallory, member]))
}

/// Sends so many messages, each until the server took it.
pub async fn fill(
    target: &Arc<Target>,
    person: &Arc<Person>,
    stream: &str,
    messages: usize,
    bytes: usize,
) -> anyhow::Result<()> {
    const AT_ONCE: u16 = 4;
    let mut senders = JoinSet::new();
    for sender in 0..AT_ONCE {
        let (target, person, stream) = (Arc::clone(target), Arc::clone(person), stream.to_owned());
        let share =
            messages / usize::from(AT_ONCE) + usize::from(usize::from(sender) < messages % usize::from(AT_ONCE));
        senders.spawn(async move {
            for _ in 0..share {
                // A budget may say no for a while.
                let mut refused = 0;
                while send(&target, sender, &person, &stream, bytes).await != Some(200) {
                    refused += 1;
                    anyhow::ensure!(refused < 100, "the conversation could not be filled");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
            Ok(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(())
}
