//! Subscriptions from the beginning that take nothing.
//!
//! Two members of a conversation that is full of messages of the greatest size open subscriptions with cursor 0, with the
//! smallest buffers, and read nothing; a subscription that is closed is opened again. The bound: backfill and live buffers
//! count bytes, and a connection that takes nothing is closed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use super::filling::{PLAINTEXT, conversation};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack =
    Attack::new("unread_streams", |target| Box::pin(run(target))).with(&[("SEND_TIMEOUT_MS", "3000")]);

const SUBSCRIBERS: u16 = 10;
const MESSAGES: [usize; 2] = [100, 20];
const NSID: &str = "blue.catbird.event.streamEvents";
/// Bytes of the connection's buffer.
const BUFFER: u32 = 4096;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let (_, people) = conversation(&target, messages, PLAINTEXT).await?;
    let people = Arc::new(people);
    let until = target.begins();
    let tally = wire::swarm(SUBSCRIBERS, until, move |worker, _| {
        let (target, people) = (Arc::clone(&target), Arc::clone(&people));
        async move {
            let token = people[usize::from(worker % 2)].token(NSID);
            let mut tcp = target.connect_with(worker, Some(BUFFER)).await.ok()?;
            let head =
                format!("GET /xrpc/{NSID}?cursor=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
            tcp.write_all(head.as_bytes()).await.ok()?;
            let status = wire::status(&mut tcp).await?;
            // Nothing is read: only the time passes.
            let held = until.min(Instant::now() + Duration::from_secs(8));
            tokio::time::sleep_until(held.into()).await;
            Some(status)
        }
    })
    .await;
    ensure!(tally.of(200) > 0, "no subscription was opened: {tally}");
    Ok(format!("{messages} messages of {PLAINTEXT} bytes; {tally}"))
}
