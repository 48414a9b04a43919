//! Whether the log flows: every replica sends entries of its own through the whole of it, and sees them arrive.
//!
//! Invariant: an entry counts once it has passed the writer, its commit, the fence, the tail and the hub of this replica,
//! so whatever is wedged in between makes the canary stale. Its streams are nobody's: no seat, no reader; one is left
//! after a day and goes with all that is in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::retention::CANARY_DAYS;
use super::{Application, CallIdentity, Error, Log, StreamInfo, StreamKind, store};
use crate::telemetry::metric_name;
use crate::types::{Cursor, Epoch, Hash, UnixMillis};

/// So many periods without an arrival, and the log does not flow.
const PERIODS: u32 = 3;
/// How often the age is measured.
const MEASURE: Duration = Duration::from_millis(500);
/// Between two looks at the hub.
const LOOK: Duration = Duration::from_millis(20);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Whether what is appended reaches those who read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nobody asks.
    Unwatched,
    Flows,
    Stalled,
}

/// What is known of the last arrival. By the machine's own clock: a test may stop the other.
pub(super) struct Canary {
    every: Option<Duration>,
    /// When the newest entry that arrived was sent.
    arrived: Mutex<Instant>,
}

impl Canary {
    pub(super) fn new(every: Option<Duration>) -> Self {
        Self { every, arrived: Mutex::new(Instant::now()) }
    }

    fn age(&self) -> Duration {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn arrived(&self, sent: Instant) {
        *self.arrived.lock().unwrap_or_else(PoisonError::into_inner) = sent;
    }

    fn flow(&self) -> Flow {
        match self.every {
            None => Flow::Unwatched,
            Some(every) if self.age() <= every * PERIODS => Flow::Flows,
            Some(_) => Flow::Stalled,
        }
    }
}

/// The stream of this replica, and since when.
struct Nest {
    stream: Arc<StreamInfo>,
    founded: UnixMillis,
}

impl Log {
    pub fn flow(&self) -> Flow {
        self.inner.canary.flow()
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken) {
    let Some(every) = log.inner.canary.every else { return };
    let (mut nest, stalled) = (None, AtomicBool::new(false));
    // One for the whole loop: a flight that ends must not cut off what it is about to tell.
    let mut watching = std::pin::pin!(watch(&log, &stalled));
    loop {
        let sent = Instant::now();
        let flight = tokio::time::timeout(every * PERIODS, fly(&log, &mut nest));
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = flight => outcome,
            () = &mut watching => return,
        };
        match outcome {
            Ok(Ok(())) => {
                log.inner.canary.arrived(sent);
                if stalled.swap(false, Ordering::Relaxed) {
                    tracing::info!("the log flows again");
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a canary could not be sent");
                nest = None;
            }
            // It was told by `watch`.
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every.saturating_sub(sent.elapsed()).max(LOOK)) => {}
            () = &mut watching => return,
        }
    }
}

/// Measures the age for as long as it is polled; tells once when the log stops flowing, and who may be the reason.
async fn watch(log: &Log, stalled: &AtomicBool) {
    loop {
        let age = log.inner.canary.age();
        metrics::gauge!(metric_name::CANARY_AGE_SECONDS).set(age.as_secs_f64());
        if log.flow() == Flow::Stalled && !stalled.swap(true, Ordering::Relaxed) {
            tracing::error!(age_ms = age.as_millis(), "the log does not flow: no canary arrived");
            log.inner.storage.name_oldest_writer().await;
        }
        tokio::time::sleep(MEASURE).await;
    }
}

/// Sends one entry and waits until it was handed out.
async fn fly(log: &Log, nest: &mut Option<Nest>) -> Result<(), Error> {
    let now = log.clock().now();
    let nest = match nest {
        Some(nest) if now.0 - nest.founded.0 < CANARY_DAYS * DAY_MS => nest,
        nest => nest.insert(found(log, now).await?),
    };
    let identity = CallIdentity { idem: Uuid::from_bytes(rand::random()), request_hash: Hash::ZERO };
    let stream = Arc::clone(&nest.stream);
    let accepted =
        log.submit(Application { stream, author: None, identity, epoch: Epoch(0), body: Vec::new() }).await?;
    let pos = store::position(log.inner.storage.pool(), nest.stream.id, accepted.seq).await?;
    while log.inner.hub.position() < Cursor::from_db(pos) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn found(log: &Log, now: UnixMillis) -> Result<Nest, Error> {
    let tx = log.inner.storage.begin().await?;
    let tx = log.found(tx, StreamKind::Canary).await?;
    let (id, public_id) = (tx.row().id, tx.row().public_id.clone());
    tx.commit().await?;
    let stream = Arc::new(StreamInfo { id, public_id, kind: StreamKind::Canary, home: log.home().to_string() });
    Ok(Nest { stream, founded: now })
}
