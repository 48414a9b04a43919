//! One tail a replica: reads new entries once, encodes each once, hands them to the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, Log, hub, store};
use crate::telemetry::metric_name;
use crate::types::Cursor;

/// Without a signal the log is looked at this often.
const POLL: Duration = Duration::from_millis(500);
/// Pauses until a position that was just committed is below the fence.
const BACK_OFF: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(2), Duration::from_millis(4), Duration::from_millis(8)];
/// Pause after the database did not answer.
const TROUBLE: Duration = Duration::from_millis(250);
const BATCH: i64 = 1_000;
/// Frames handed out before readers get a turn.
const HAND_OUT: usize = 64;

pub(super) async fn run(log: Log, stop: CancellationToken) {
    let mut waits = 0;
    loop {
        let pause = match step(&log).await {
            Ok(Progress::More) => {
                waits = 0;
                continue;
            }
            Ok(Progress::Behind) => {
                let pause = BACK_OFF[waits.min(BACK_OFF.len() - 1)];
                waits += 1;
                pause
            }
            Ok(Progress::Idle) => {
                waits = 0;
                POLL
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the tail could not read the log");
                TROUBLE
            }
        };
        let wake = async {
            // While the fence holds a known position back, only time helps.
            if pause == POLL { log.inner.hub.woken_up().await } else { std::future::pending().await }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

enum Progress {
    /// There may be more right now.
    More,
    /// A position that was committed is not below the fence yet.
    Behind,
    Idle,
}

async fn step(log: &Log) -> Result<Progress, Error> {
    let hub = &log.inner.hub;
    let pool = log.inner.storage.pool();
    let woken = hub.woken();
    if hub.tracked_accounts().is_empty() {
        // Nobody listens here: the contents need not be read.
        hub.skip_to(store::newest_readable(pool).await?);
        return Ok(if hub.position() < woken { Progress::Behind } else { Progress::Idle });
    }
    let events = store::tail(pool, hub.position(), BATCH).await?;
    let full = events.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);

    let mut spans = if hub::changes_spans(events.iter().map(|event| event.kind)) {
        let mut streams: Vec<i64> =
            events.iter().filter(|event| event.kind.changes_seats()).map(|event| event.stream_id).collect();
        streams.sort_unstable();
        streams.dedup();
        store::spans_of_streams(pool, &streams, &hub.tracked_accounts()).await?
    } else {
        Vec::new()
    };
    // Whoever took an invitation sees its seat from the notice of it on.
    let owners: Vec<i64> =
        events.iter().filter(|event| event.kind.may_show_seats()).map(|event| event.stream_id).collect();
    if !owners.is_empty() {
        spans.extend(store::spans_of_owners(pool, &owners, &hub.tracked_accounts()).await?);
    }
    // Read before anything is handed out: a database that does not answer repeats the whole step.
    let silenced = if events.iter().any(|event| event.kind.may_silence()) {
        store::silenced(pool, &hub.devices()).await?
    } else {
        Vec::new()
    };
    if !events.is_empty() {
        let now = log.inner.clock.now().0;
        if let Some(oldest) = events.first() {
            #[expect(clippy::cast_precision_loss, reason = "a delay in milliseconds is far below 2^52")]
            metrics::histogram!(metric_name::LOG_TAIL_DELAY_SECONDS)
                .record((now - oldest.time.0).max(0) as f64 / 1_000.0);
        }
        let frames: Vec<_> =
            events.into_iter().map(|event| event.into_frame().map(Arc::new)).collect::<Result<_, _>>()?;
        hub.merge(&spans);
        for some in frames.chunks(HAND_OUT) {
            hub.hand_out(some);
            // A burst must not fill the buffer of a reader that would have kept up.
            tokio::task::yield_now().await;
        }
        // Wherever it lost its right, its sockets here end.
        for device_row in silenced {
            hub.close_device(device_row);
        }
    }
    let reached: Cursor = hub.position();
    Ok(match (full, reached < woken) {
        (true, _) => Progress::More,
        (false, true) => Progress::Behind,
        (false, false) => Progress::Idle,
    })
}
