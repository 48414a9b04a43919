//! The tailer of this instance: reads new entries once, encodes each once, hands them to the hub.
//!
//! Invariants: a read ends where a transaction ends, and its spans are read before its first entry is handed out, so a
//! seat that a transaction opens shows all of that transaction; contents are read only for streams that a listener of
//! this instance may see, at most [`page::TAIL_BYTES`] at a time; a row that does not decode holds back no other row.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::page::{self, EntryKey, PageBudget};
use super::{EntryKind, Error, Event, Log, store};
use crate::telemetry::metric_name;
use crate::types::Cursor;
use crate::worker::Beat;

/// Without a signal the log is looked at this often.
const POLL: Duration = Duration::from_millis(500);
/// The first pause while a committed position is not below the horizon yet, and the longest: a transaction that holds
/// the horizon back for long holds back every instance, and all of them look.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));
/// The least pause between two looks while nobody listens.
const UNHEARD: Duration = Duration::from_millis(100);
/// Pause after the database did not answer.
const TROUBLE: Duration = Duration::from_millis(250);
/// Keys of one read: more than the 1,024 entries that one transaction may have.
const LOOK_ENTRIES: i64 = 2_048;
/// Frames handed out before readers get a turn.
const HAND_OUT: usize = 64;

pub(super) async fn run(log: Log, stop: CancellationToken, beat: Beat) {
    let mut waits = 0;
    loop {
        beat.beat();
        let outcome = step(&log).await;
        if outcome.is_ok() {
            log.inner.flow.look_completed();
        }
        let pause = match outcome {
            Ok(Progress::More) => {
                waits = 0;
                continue;
            }
            Ok(Progress::Behind) => {
                let pause = back_off(waits);
                waits += 1;
                pause
            }
            Ok(Progress::Idle) => {
                waits = 0;
                POLL
            }
            Ok(Progress::Unheard) => {
                waits = 0;
                let began = tokio::time::timeout(UNHEARD, log.inner.hub.listener_began()).await;
                if began.is_ok() || log.inner.hub.position() < log.inner.hub.woken() {
                    continue;
                }
                POLL
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to read the log for delivery");
                TROUBLE
            }
        };
        let wake = async {
            // While the horizon holds back a known position, the tailer can only wait.
            if pause == POLL { log.inner.hub.woken_up().await } else { std::future::pending().await }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The pause after so many looks in vain.
fn back_off(looks: u32) -> Duration {
    BACK_OFF.0.saturating_mul(2_u32.saturating_pow(looks)).min(BACK_OFF.1)
}

enum Progress {
    /// There may be more right now.
    More,
    /// A committed position is not below the horizon yet.
    Behind,
    Idle,
    /// No device listens, so that the tailer only follows the horizon.
    Unheard,
}

async fn step(log: &Log) -> Result<Progress, Error> {
    let hub = &log.inner.hub;
    let pool = log.inner.storage.pool();
    let woken = hub.woken();
    if hub.nobody_listens() {
        hub.skip_to(store::newest_readable(pool).await?);
        return Ok(Progress::Unheard);
    }
    let (keys, full) = store::tail_keys(pool, hub.position(), LOOK_ENTRIES).await?;
    if let Some(end) = keys.last().map(|key| key.cursor) {
        read_spans(log, &keys).await?;
        // Listeners that join from now on read these entries from the log.
        let wanted = hub.claim(end, keys.iter().map(|key| key.stream_id));
        deliver(log, &keys, &wanted).await?;
        hub.pass(end);
    }
    let reached: Cursor = hub.position();
    Ok(match (full, reached < woken) {
        (true, _) => Progress::More,
        (false, true) => Progress::Behind,
        (false, false) => Progress::Idle,
    })
}

/// The streams of the entries whose kind satisfies `is`, each once.
fn streams_of(keys: &[EntryKey], is: fn(EntryKind) -> bool) -> Vec<i64> {
    let fits = |key: &&EntryKey| EntryKind::from_db(key.kind).is_some_and(is);
    let streams: HashSet<i64> = keys.iter().filter(fits).map(|key| key.stream_id).collect();
    streams.into_iter().collect()
}

/// Reads the spans that the entries changed, and those of accepted invitations.
async fn read_spans(log: &Log, keys: &[EntryKey]) -> Result<(), Error> {
    let pool = log.inner.storage.pool();
    let changed = streams_of(keys, EntryKind::changes_seats);
    if !changed.is_empty() {
        log.inner.hub.merge(&store::spans_of_streams(pool, &changed).await?);
    }
    // An account that accepted an invitation sees its seat from the notice of the acceptance on.
    let owners = streams_of(keys, EntryKind::may_show_seats);
    if !owners.is_empty() {
        log.inner.hub.merge(&store::spans_of_owners(pool, &owners).await?);
    }
    Ok(())
}

/// Hands out the entries of the wanted streams, as many at a time as fit the budget. Devices that an entry silences are
/// ended after it; they are read before, so that a failing database repeats the rest of the read.
async fn deliver(log: &Log, keys: &[EntryKey], wanted: &HashSet<i64>) -> Result<(), Error> {
    let (hub, pool) = (&log.inner.hub, log.inner.storage.pool());
    let wanted: Vec<EntryKey> = keys.iter().filter(|key| wanted.contains(&key.stream_id)).copied().collect();
    let budget = PageBudget { entries: wanted.len(), bytes: page::TAIL_BYTES };
    let mut rest = wanted.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(budget.fit(rest));
        rest = later;
        let events = store::read_entries(pool, now).await?;
        let silencing = streams_of(now, EntryKind::may_silence);
        let silenced =
            if silencing.is_empty() { Vec::new() } else { store::silenced_of_owners(pool, &silencing).await? };
        if let Some(oldest) = events.first() {
            let delay_ms = (log.inner.clock.now().0 - oldest.time.0).max(0);
            #[expect(clippy::cast_precision_loss, reason = "a delay in milliseconds is far below 2^52")]
            metrics::histogram!(metric_name::LOG_TAIL_DELAY_SECONDS).record(delay_ms as f64 / 1_000.0);
        }
        let frames = events.into_iter().filter_map(Event::into_frame_or_skip);
        let frames: Vec<_> = frames.map(|frame| Arc::new(hub.weighed(frame))).collect();
        for some in frames.chunks(HAND_OUT) {
            hub.hand_out(some);
            // A burst must not fill the buffer of a reader that would have kept up.
            tokio::task::yield_now().await;
        }
        for device_row in silenced {
            hub.close_device(device_row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<u128> = (0..9).map(|looks| back_off(looks).as_millis()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(back_off(u32::MAX), BACK_OFF.1);
    }
}
