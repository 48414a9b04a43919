//! Signals of an instance without background work to those that do such work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{CHANNEL, Link, TROUBLE, Word};
use crate::log::{Error, Log, store};

/// Work that is committed within this time shares a signal.
const COALESCE: Duration = Duration::from_millis(5);

/// Signals that work is due, until `stop`.
pub(in crate::log) async fn send_work(log: Log, link: Option<Arc<Link>>, due: Arc<Notify>, stop: CancellationToken) {
    let text = [Word::Work.write(&log.inner.replica)];
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = due.notified() => {}
        }
        if let Err(error) = send(&log, link.as_deref(), &text).await {
            // The workers look by themselves before long.
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to wake workers of other instances");
            tokio::time::sleep(TROUBLE).await;
        }
        tokio::time::sleep(COALESCE).await;
    }
}

async fn send(log: &Log, link: Option<&Link>, text: &[String]) -> Result<(), Error> {
    let carried = match link {
        Some(link) => link.publish(text).await,
        None => false,
    };
    if carried || log.inner.neighbours.is_alone(Instant::now()) {
        return Ok(());
    }
    store::notify_all(&mut log.inner.storage.pool().acquire().await?, CHANNEL, text).await
}
