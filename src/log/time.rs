//! The time of new entries.
//!
//! Invariant: no entry is dated more than a minute beyond the clock of Postgres. Time never falls within a stream, so
//! an entry from far ahead would date all later ones.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Error, Log, store};
use crate::storage::Storage;
use crate::telemetry::metric_name;
use crate::types::{Clock, UnixMillis};
use crate::worker::Beat;

/// The most milliseconds that the clocks of this machine and of Postgres may be apart.
const APART_MS: i64 = 5_000;
/// The most milliseconds that an entry may be dated beyond the clock of Postgres.
const BEYOND_MS: i64 = 60_000;
/// Interval between two comparisons of the clocks.
const EVERY: Duration = Duration::from_secs(10);

/// The clock of Postgres, as last read.
#[derive(Debug)]
struct Seen {
    at: Instant,
    postgres_ms: i64,
}

/// The reference for the clock of this machine.
#[derive(Debug, Default)]
pub(super) struct Reference(Mutex<Option<Seen>>);

impl Reference {
    fn set(&self, seen: Seen) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// The time of a new entry, where this machine's clock reads `own`.
    fn bounded(&self, own: UnixMillis) -> UnixMillis {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(seen) => {
                let since = i64::try_from(seen.at.elapsed().as_millis()).unwrap_or(i64::MAX);
                UnixMillis(own.0.min(seen.postgres_ms.saturating_add(since).saturating_add(BEYOND_MS)))
            }
            None => own,
        }
    }
}

impl Log {
    /// The time of a new entry.
    pub(super) fn entry_time(&self) -> UnixMillis {
        self.inner.time.bounded(self.inner.clock.now())
    }

    /// Compares the clocks. Answers by how many milliseconds this machine's clock is ahead.
    async fn compare_clocks(&self) -> Result<i64, Error> {
        let (ahead_ms, seen) = compare(&self.inner.storage, &self.inner.clock).await?;
        self.inner.time.set(seen);
        Ok(ahead_ms)
    }
}

async fn compare(storage: &Storage, clock: &Clock) -> Result<(i64, Seen), Error> {
    let mut connection = storage.pool().acquire().await?;
    let (asked, own_ms) = (Instant::now(), clock.now().0);
    let postgres_ms = store::clock_ms(&mut connection).await?;
    // Assumes that Postgres read its clock half-way through the round trip.
    let half_ms = i64::try_from(asked.elapsed().as_millis() / 2).unwrap_or_default();
    Ok((own_ms + half_ms - postgres_ms, Seen { at: Instant::now(), postgres_ms: postgres_ms + half_ms }))
}

/// Refuses to start while the clocks are apart: new entries would have wrong times permanently.
pub(super) async fn agree(storage: &Storage, clock: &Clock) -> Result<Reference, Error> {
    let reference = Reference::default();
    // The manual clock of tests is not compared.
    if matches!(clock, Clock::System) {
        let (ahead_ms, seen) = compare(storage, clock).await?;
        if ahead_ms.abs() > APART_MS {
            return Err(Error::ClocksApart { ahead_ms });
        }
        reference.set(seen);
    }
    Ok(reference)
}

pub(super) async fn run(log: Log, stop: CancellationToken, beat: Beat) {
    let mut said = false;
    loop {
        beat.beat();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if !matches!(log.clock(), Clock::System) {
            continue;
        }
        match log.compare_clocks().await {
            Ok(ahead_ms) => {
                #[expect(clippy::cast_precision_loss, reason = "a gauge of seconds needs no more than 53 bits")]
                metrics::gauge!(metric_name::CLOCK_AHEAD_SECONDS).set(ahead_ms as f64 / 1_000.0);
                let apart = ahead_ms.abs() > APART_MS;
                if apart && !said {
                    tracing::error!(
                        ahead_ms,
                        "the clock of this machine and that of Postgres are apart. Fix: let both follow a time server"
                    );
                }
                said = apart;
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to compare the clock with Postgres");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_entry_is_made_more_than_a_minute_beyond_postgres() {
        let reference = Reference::default();
        assert_eq!(reference.bounded(UnixMillis(5)), UnixMillis(5), "there is no clock to compare with");
        reference.set(Seen { at: Instant::now(), postgres_ms: 1_000_000 });
        assert_eq!(reference.bounded(UnixMillis(1_030_000)), UnixMillis(1_030_000));
        assert_eq!(reference.bounded(UnixMillis(900_000)), UnixMillis(900_000), "the smaller of the two");
        let bounded = reference.bounded(UnixMillis(99_000_000)).0;
        assert!((1_000_000 + BEYOND_MS..1_000_000 + BEYOND_MS + 10_000).contains(&bounded), "{bounded}");
    }
}
