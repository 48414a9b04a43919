//! HTTP/2 connections that answer pings and ask nothing.
//!
//! 1,000 connections of ten addresses greet, acknowledge, and stay. The bound: a connection without a request is closed
//! after `HEADER_TIMEOUT_MS`, whatever it answers to pings.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use crate::target::Target;
use crate::wire::{self, http2};

pub const ATTACK: Attack =
    Attack::new("idle_http2", |target| Box::pin(run(target))).with(&[("HEADER_TIMEOUT_MS", "2000")]);

const CONNECTIONS: u16 = 1000;
const ADDRESSES: u16 = 10;
const PATIENCE: Duration = Duration::from_secs(12);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (until, mut connections, mut held) = (target.begins(), 0, 0);
    while Instant::now() < until || connections == 0 {
        let attackers = Arc::clone(&target);
        let tally = wire::burst(CONNECTIONS, move |number| {
            let target = Arc::clone(&attackers);
            async move {
                let mut tcp = target.connect(number % ADDRESSES).await.ok()?;
                tcp.write_all(&http2::hello(65_535)).await.ok();
                let stays = tokio::time::timeout(PATIENCE, http2::stay(&mut tcp)).await;
                Some(if stays.is_ok() { 1 } else { 2 })
            }
        })
        .await;
        connections += tally.calls();
        held += tally.of(2);
    }
    ensure!(held == 0, "{held} of {connections} idle HTTP/2 connections were still open after {PATIENCE:?}");
    Ok(format!("{connections} idle HTTP/2 connections, all closed"))
}
