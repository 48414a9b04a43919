//! Messages of the greatest size, as fast as one account may send them.
//!
//! The bound: the writer's queue, request bodies and tails count bytes, and quotas of bytes refuse what an account may not
//! store, while the honest client writes and reads on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;

use super::Attack;
use super::filling::{PLAINTEXT, conversation, send};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("maximal_messages", |target| Box::pin(run(target)));

const WORKERS: u16 = 8;
/// No more than this is written to the disk of whoever runs the attack.
const MESSAGES: usize = 400;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (stream, [mallory, _]) = conversation(&target, 1, PLAINTEXT).await?;
    let (until, written) = (target.begins(), Arc::new(AtomicUsize::new(0)));
    let tally = wire::swarm(WORKERS, until, move |worker, _| {
        let (target, mallory, stream, written) =
            (Arc::clone(&target), Arc::clone(&mallory), stream.clone(), Arc::clone(&written));
        async move {
            if written.load(Ordering::SeqCst) >= MESSAGES {
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Some(1);
            }
            let status = send(&target, worker, &mallory, &stream, PLAINTEXT).await;
            written.fetch_add(usize::from(status == Some(200)), Ordering::SeqCst);
            status
        }
    })
    .await;
    ensure!(tally.of(200) > 2, "only {tally}");
    Ok(format!(
        "{} messages of {PLAINTEXT} bytes; refused: {}",
        tally.of(200),
        tally.calls() - tally.of(200) - tally.of(1)
    ))
}
