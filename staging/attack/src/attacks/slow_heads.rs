//! Heads of requests that never come to their end.
//!
//! 1,000 connections of ten addresses send a head of 60 kB and then a byte from time to time. The bound:
//! `HEADER_TIMEOUT_MS` ends a connection whose head does not come to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack =
    Attack::new("slow_heads", |target| Box::pin(run(target))).with(&[("HEADER_TIMEOUT_MS", "2000")]);

const CONNECTIONS: u16 = 1000;
const ADDRESSES: u16 = 10;
const PAUSE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(10);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let head = format!("GET /xrpc/blue.catbird.mls.getConvos HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(60_000));
    let (until, mut connections, mut held) = (target.begins(), 0, 0);
    while Instant::now() < until || connections == 0 {
        let (attackers, head) = (Arc::clone(&target), head.clone());
        let tally = wire::burst(CONNECTIONS, move |number| {
            let (target, head) = (Arc::clone(&attackers), head.clone());
            async move {
                let mut tcp = target.connect(number % ADDRESSES).await.ok()?;
                tcp.write_all(head.as_bytes()).await.ok();
                let closed = wire::drip(&mut tcp, PAUSE, Instant::now() + PATIENCE).await;
                Some(if closed { 1 } else { 2 })
            }
        })
        .await;
        connections += tally.calls();
        held += tally.of(2);
    }
    ensure!(held == 0, "{held} of {connections} connections were still open after {PATIENCE:?}");
    Ok(format!("{connections} connections with a head that does not end, all closed"))
}
