//! HTTP/2 connections that answer pings and ask nothing.
//!
//! 1,000 connections of ten addresses greet, acknowledge, and stay. The bound: a connection without a request is closed
//! after `HEADER_TIMEOUT_MS`, whatever it answers to pings.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Attack, waves};
use crate::target::Target;
use crate::wire::http2;

pub const ATTACK: Attack =
    Attack::new("idle_http2", |target| Box::pin(run(target))).with(&[("HEADER_TIMEOUT_MS", "2000")]);

const CONNECTIONS: u16 = 1000;
const ADDRESSES: u16 = 10;
const PATIENCE: Duration = Duration::from_secs(12);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let ended = waves::all_end(&target, CONNECTIONS, |target, number| async move {
        let mut tcp = target.connect(number % ADDRESSES).await.ok()?;
        tcp.write_all(&http2::hello(65_535)).await.ok();
        Some(tokio::time::timeout(PATIENCE, http2::stay(&mut tcp)).await.is_ok())
    });
    Ok(format!("{} idle HTTP/2 connections, all closed", ended.await?))
}
