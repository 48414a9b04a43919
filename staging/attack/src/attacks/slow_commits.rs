//! Large bodies that never come to their end, from one account.
//!
//! One account opens 64 requests of 11 MB each, sends all but the last byte, and waits: without a budget the server holds
//! 700 MB. The bound: the bytes of bodies that are received are taken from one budget, of which an account holds an eighth,
//! and the deadline of requests ends each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("slow_commits", |target| Box::pin(run(target)));

const REQUESTS: u16 = 64;
const BODY: usize = 11_000_000;
const PIECE: usize = 256 * 1024;
/// The deadline of requests, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(20);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let mallory = target.person("mallory").await?;
    let nsid = "blue.catbird.mls.createConvo";
    let (until, mut requests, mut refused, mut held) = (target.begins(), 0, 0, 0);
    while Instant::now() < until || requests == 0 {
        let (attackers, mallory) = (Arc::clone(&target), Arc::clone(&mallory));
        let tally = wire::burst(REQUESTS, move |number| {
            let (target, token) = (Arc::clone(&attackers), mallory.token(nsid));
            async move {
                let mut tcp = target.connect(number % 8).await.ok()?;
                tcp.write_all(&wire::post(nsid, Some(&token), BODY, "")).await.ok();
                let piece = vec![b' '; PIECE];
                let mut left = BODY - 1;
                let waits = Instant::now() + PATIENCE;
                while left > 0 && Instant::now() < waits {
                    let length = left.min(PIECE);
                    let written = tokio::time::timeout_at(waits.into(), tcp.write_all(&piece[..length])).await;
                    if !matches!(written, Ok(Ok(()))) {
                        break;
                    }
                    left -= length;
                }
                // An answer before the body's end is a refusal; a server that waits for the rest answers 504 or closes.
                let answered = tokio::time::timeout_at(waits.into(), wire::status(&mut tcp)).await;
                Some(answered.map_or(2, |status| status.unwrap_or(1)))
            }
        })
        .await;
        requests += tally.calls();
        refused += tally.of(0);
        held += tally.of(2);
    }
    ensure!(refused < requests, "the attackers got no connection");
    ensure!(held == 0, "{held} of {requests} requests were still open after {PATIENCE:?}");
    Ok(format!("{requests} requests of 11 MB without their last byte, all ended"))
}
