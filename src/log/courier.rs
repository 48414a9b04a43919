//! Effects on other streams: outbox rows of the transaction that caused them, appended here, each exactly once.
//!
//! Invariants: a row is deleted in the transaction that appends it, so a crash before leaves it for the next worker;
//! one worker at a time appends the rows of an account, in their order; a row that cannot be appended holds back its
//! own account alone, and not indefinitely.

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::store::{self, Queue};
use super::{EntryKind, Error, Log, StreamTx};
use crate::storage::{self, PgConnection};
use crate::telemetry::metric_name;
use crate::types::UnixMillis;
use crate::worker::Beat;

/// Without a wake-up (another replica wrote) the outbox is looked at this often.
const POLL: Duration = Duration::from_millis(500);
const TROUBLE: Duration = Duration::from_millis(500);
/// Queues looked at in one pass, and rows appended in one transaction.
const QUEUES: i64 = 64;
const BATCH: i64 = 256;
const BATCH_BYTES: i64 = 4 << 20;
/// Attempts at one row before it is set aside for a person to look at: about half a minute.
const ATTEMPTS: i16 = 8;
/// Bounds of the pause after the first failed attempt and after all later ones; doubled in between, and up to half of it
/// left to chance.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// An entry for an account's stream.
#[derive(Debug)]
pub struct Outgoing {
    pub account_id: i64,
    pub kind: EntryKind,
    pub body: Vec<u8>,
}

impl StreamTx {
    /// Queues entries for account streams; the outbox worker appends them after this transaction's commit.
    pub async fn send(&mut self, outgoing: Vec<Outgoing>) -> Result<(), Error> {
        let now = self.now();
        store::insert_outbox(self.conn(), &outgoing, now).await?;
        self.wakes_courier |= !outgoing.is_empty();
        Ok(())
    }
}

/// Queues entries in any transaction, also of a program without a log: the outbox worker of any instance appends them.
pub async fn queue(conn: &mut PgConnection, outgoing: &[Outgoing], now: UnixMillis) -> Result<(), Error> {
    store::insert_outbox(conn, outgoing, now).await
}

/// Withdraws waiting outbox rows of one kind, for these accounts and with these bytes: the same transaction queues
/// their replacement.
pub async fn withdraw(
    conn: &mut PgConnection,
    account_ids: &[i64],
    kind: EntryKind,
    about: &[u8],
) -> Result<(), Error> {
    store::withdraw(conn, account_ids, kind.to_db(), about).await
}

impl Log {
    /// Wakes this instance's outbox worker after queued rows were committed.
    pub fn wake_courier(&self) {
        self.inner.courier_wake.notify_one();
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken, beat: Beat) {
    loop {
        let pause = match deliver(&log, &beat).await {
            Ok(delivered) if delivered > 0 => continue,
            Ok(_) => POLL,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the courier could not deliver");
                TROUBLE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = log.inner.courier_wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One pass over the queues that are due; how many rows it delivered.
async fn deliver(log: &Log, beat: &Beat) -> Result<usize, Error> {
    let mut delivered = 0;
    beat.beat();
    for queue in store::due_queues(log.inner.storage.pool(), QUEUES).await? {
        beat.beat();
        match storage::retrying(Error::is_collision, || deliver_queue(log, &queue)).await {
            Ok(rows) => {
                delivered += rows;
                metrics::counter!(metric_name::OUTBOX_DELIVERED).increment(rows as u64);
            }
            // The stream is recovering: its rows keep waiting, and hold back no other stream.
            Err(Error::Halted(_)) => {}
            Err(error) if is_its_own(&error) => put_off(log, &queue, &error).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(delivered)
}

/// Appends the next rows of one queue; none if another worker has it.
async fn deliver_queue(log: &Log, queue: &Queue) -> Result<usize, Error> {
    let Some(mut tx) = log.lock_as_courier(queue.stream_id).await? else { return Ok(0) };
    // A row that failed before is tried alone, so that it fails no other row.
    let limit = if queue.attempts > 0 { 1 } else { BATCH };
    let rows = store::queued(tx.conn(), queue.account_id, limit, BATCH_BYTES).await?;
    let server = tx.server()?;
    let (mut ids, mut notices) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows.into_iter().take_while(|row| row.is_due) {
        let kind = EntryKind::from_db(row.kind).ok_or(storage::Error::Corrupt("outbox.kind"))?;
        notices.push((kind, row.body));
        ids.push(row.id);
    }
    if ids.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    tx.append_notices(&server, notices).await?;
    store::delete_outbox(tx.conn(), &ids).await?;
    tx.commit().await?;
    Ok(ids.len())
}

/// Whether it is about what was to be appended; all else passes, or concerns every row.
fn is_its_own(error: &Error) -> bool {
    !matches!(
        error,
        Error::Busy
            | Error::Overtaken
            | Error::Storage(storage::Error::Unavailable(_) | storage::Error::Full(_) | storage::Error::Collision(_))
    )
}

async fn put_off(log: &Log, queue: &Queue, error: &Error) -> Result<(), Error> {
    let due_in = pause(queue.attempts).mul_f64(rand::rng().random_range(0.5..1.0));
    let parked = store::put_off(log.inner.storage.pool(), queue.account_id, due_in, ATTEMPTS).await?;
    metrics::counter!(metric_name::OUTBOX_PUT_OFF).increment(1);
    let error = error as &dyn std::error::Error;
    if let Some(outbox_id) = parked {
        metrics::counter!(metric_name::OUTBOX_PARKED).increment(1);
        tracing::error!(error, outbox_id, "an effect cannot be delivered and was set aside");
    } else {
        tracing::warn!(error, "an effect could not be delivered and was put off");
    }
    Ok(())
}

fn pause(attempts: i16) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or_default().min(16);
    (PAUSES.0 * 2_u32.pow(doublings)).min(PAUSES.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), PAUSES.0);
        assert_eq!(pause(3), PAUSES.0 * 8);
        assert_eq!(pause(i16::MAX), PAUSES.1);
        let all: Duration = (0..ATTEMPTS).map(pause).sum();
        assert!(all > Duration::from_secs(20) && all < Duration::from_mins(2), "{all:?}");
    }
}
