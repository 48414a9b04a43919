//! HTTP/2 answers that nobody takes.
//!
//! 40 connections with a window of 0 ask for 50 answers each, and take none. The bound: a connection that takes nothing of
//! its answers is closed after `SEND_TIMEOUT_MS`.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::{Attack, waves};
use crate::target::Target;
use crate::wire::http2;

pub const ATTACK: Attack =
    Attack::new("closed_windows", |target| Box::pin(run(target))).with(&[("SEND_TIMEOUT_MS", "2000")]);

const CONNECTIONS: u16 = 40;
const STREAMS: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(12);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let ended = waves::all_end(&target, CONNECTIONS, |target, number| async move {
        let mut tcp = target.connect(number).await.ok()?;
        tcp.write_all(&http2::hello(0)).await.ok();
        for stream in 0..STREAMS {
            tcp.write_all(&http2::get(2 * stream + 1, "/.well-known/did.json")).await.ok();
        }
        Some(tokio::time::timeout(PATIENCE, http2::stay(&mut tcp)).await.is_ok())
    });
    Ok(format!("{} connections with {STREAMS} unread answers, all closed", ended.await?))
}
