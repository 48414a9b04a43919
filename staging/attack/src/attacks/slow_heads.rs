//! Heads of requests that never come to their end.
//!
//! 1,000 connections of ten addresses send a head of 60 kB and then a byte from time to time. The bound:
//! `HEADER_TIMEOUT_MS` ends a connection whose head does not come to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::{Attack, waves};
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
    let head = Arc::new(head);
    let ended = waves::all_end(&target, CONNECTIONS, |target, number| {
        let head = Arc::clone(&head);
        async move {
            let mut tcp = target.connect(number % ADDRESSES).await.ok()?;
            tcp.write_all(head.as_bytes()).await.ok();
            Some(wire::drip(&mut tcp, PAUSE, Instant::now() + PATIENCE).await)
        }
    });
    Ok(format!("{} connections with a head that does not end, all closed", ended.await?))
}
