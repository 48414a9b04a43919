//! Reads whose caller hangs up at once.
//!
//! Workers send a read, close the connection, and go on with the next. The bound: the statement of an abandoned call holds
//! no place of other callers beyond its deadline, and an abandoned call counts as in flight until its work ended.

use std::sync::Arc;

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use super::filling::conversation;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("hang_ups", |target| Box::pin(run(target)));

const WORKERS: u16 = 16;
const MESSAGES: [usize; 2] = [400, 100];
const NSID: &str = "blue.catbird.event.listEvents";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let (_, people) = conversation(&target, messages, 2000).await?;
    let people = Arc::new(people);
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, people) = (Arc::clone(&target), Arc::clone(&people));
        async move {
            let token = people[call % 2].token(NSID);
            let mut tcp = target.connect(worker).await.ok()?;
            let head =
                format!("GET /xrpc/{NSID}?limit=100 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
            tcp.write_all(head.as_bytes()).await.ok()?;
            // Long enough for the call to begin, too short for its answer.
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            Some(1)
        }
    })
    .await;
    ensure!(tally.of(1) > 10, "only {tally}");
    Ok(format!("{} reads that were abandoned", tally.of(1)))
}
