//! One conversation that is written by many at once, with repeats, wrong epochs and commits.
//!
//! Every other message repeats an idempotency key, some are of a past epoch, a member commits without a pause, and members
//! report their first read positions. The bound: callers of one stream wait for each other before they take a database
//! connection, so that one stream never holds more than a few; the honest client writes to another stream.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::json;

use super::Attack;
use super::filling::{conversation, fill, message};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("hot_stream", |target| Box::pin(run(target)));

const WORKERS: u16 = 24;
const SEND: &str = "blue.catbird.mls.sendMessage";
const CURSOR: &str = "blue.catbird.mls.updateCursor";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (stream, [mallory, member]) = conversation(&target, 0, 500).await?;
    member.arrive(&stream).await?;
    fill(&target, &mallory, &stream, 20, 500).await?;
    // After the first commit below, messages of this epoch are too old.
    let repeated = Arc::new(message(&member, &stream, 500).await?);
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, mallory, member, stream, repeated) =
            (Arc::clone(&target), Arc::clone(&mallory), Arc::clone(&member), stream.clone(), Arc::clone(&repeated));
        async move {
            if worker == 0 {
                return Some(if mallory.change(&stream, &[], &[]).await.is_ok() { 200 } else { 409 });
            }
            let reply = match call % 3 {
                0 => target.call(worker, SEND, "", Some(member.token(SEND)), Some(repeated.to_vec())).await?,
                1 => {
                    let body = message(&mallory, &stream, 500).await.ok()?;
                    target.call(worker, SEND, "", Some(mallory.token(SEND)), Some(body)).await?
                }
                _ => {
                    let body = serde_json::to_vec(&json!({ "stream": stream, "seq": call })).ok()?;
                    target.call(worker, CURSOR, "", Some(member.token(CURSOR)), Some(body)).await?
                }
            };
            Some(reply.status)
        }
    })
    .await;
    ensure!(tally.of(200) > 5 && tally.of(500) == 0, "{tally}");
    Ok(tally.to_string())
}
