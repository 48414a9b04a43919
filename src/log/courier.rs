//! Effects on other streams: outbox rows of the transaction that caused them, appended here, each exactly once.
//!
//! Invariant: a row is deleted in the transaction that appends it. Whoever crashes between leaves the row for the next.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use super::store::{self, OutboxRow};
use super::{Draft, EntryKind, Error, Log, StreamTx};
use crate::storage;
use crate::telemetry::metric_name;
use crate::types::UnixMillis;

/// Without a wake-up (another replica wrote) the outbox is looked at this often.
const POLL: Duration = Duration::from_millis(500);
const TROUBLE: Duration = Duration::from_millis(500);
/// Rows taken at once.
const BATCH: i64 = 256;

/// An entry for somebody's account stream.
#[derive(Debug)]
pub struct Outgoing {
    pub account_id: i64,
    pub kind: EntryKind,
    pub body: Vec<u8>,
}

impl StreamTx {
    /// Queues entries for account streams; the courier appends them after this transaction's commit.
    pub async fn send(&mut self, outgoing: Vec<Outgoing>) -> Result<(), Error> {
        let now = self.now();
        store::insert_outbox(self.conn(), &outgoing, now).await?;
        self.wakes_courier |= !outgoing.is_empty();
        Ok(())
    }
}

/// The same in any transaction, also of a program that runs no log: the courier of whichever server looks next.
pub async fn queue(conn: &mut PgConnection, outgoing: &[Outgoing], now: UnixMillis) -> Result<(), Error> {
    store::insert_outbox(conn, outgoing, now).await
}

impl Log {
    /// Something was queued and committed: the courier of this server need not wait to look.
    pub fn wake_courier(&self) {
        self.inner.courier_wake.notify_one();
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken) {
    loop {
        let pause = match deliver(&log).await {
            Ok(true) => continue,
            Ok(false) => POLL,
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

/// Delivers one batch; whether there may be more.
async fn deliver(log: &Log) -> Result<bool, Error> {
    let rows = store::list_outbox(log.inner.storage.pool(), BATCH).await?;
    let full = rows.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
    let mut by_stream: BTreeMap<i64, Vec<OutboxRow>> = BTreeMap::new();
    for row in rows {
        by_stream.entry(row.stream_id).or_default().push(row);
    }
    for (stream_id, rows) in by_stream {
        let count = rows.len() as u64;
        append(log, stream_id, rows).await?;
        metrics::counter!(metric_name::OUTBOX_DELIVERED).increment(count);
    }
    Ok(full)
}

async fn append(log: &Log, stream_id: i64, rows: Vec<OutboxRow>) -> Result<(), Error> {
    let mut tx = log.lock(stream_id).await?;
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    // Another replica's courier may have been quicker: what it deleted, it appended.
    let mine = store::delete_outbox(tx.conn(), &ids).await?;
    let server = tx.server()?;
    for row in rows.into_iter().filter(|row| mine.contains(&row.id)) {
        let kind = EntryKind::from_db(row.kind).ok_or(storage::Error::Corrupt("outbox.kind"))?;
        tx.append(&server, Draft { kind, epoch: None, body: row.body, identity: None }).await?;
    }
    tx.commit().await
}
