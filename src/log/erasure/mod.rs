//! Erasing an account's own messages from a stream that the account left: a job in steps.
//!
//! Invariants: the job is written with the entry that ends the seat; a step is one short transaction that erases at most
//! 500 messages and keeps how far the job came, so that a crash repeats nothing and forgets nothing; messages are
//! searched before the transaction, because an open writer holds back every reader of the log.

mod store;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::store::{Found, Job};
use super::body::{Body, ErasedBody};
use super::identity::Author;
use super::{Draft, EntryKind, Error, Log, Seat, StreamTx};
use crate::types::{Refusal, Seq};
use crate::worker::Beat;

/// Messages that one entry, and so one transaction, erases.
const MESSAGES_PER_STEP: i64 = 500;
/// Entries that one search looks through.
const ENTRIES_PER_SEARCH: i64 = 10_000;
/// Between two steps, so that other writers come first.
const PAUSE: Duration = Duration::from_millis(20);
/// Without a wake-up (another instance took the call) the jobs are looked at this often.
const POLL: Duration = Duration::from_secs(1);
/// A stream that takes no entries now, or that another server orders now, is looked at again after this time.
const PUT_OFF: Duration = Duration::from_mins(1);

/// Messages that are erased with the entry that ends the seat.
const MESSAGES_AT_ONCE: i64 = 1_000;

impl Log {
    /// The newest messages of an author that still have their contents: those that are erased by the same transaction
    /// that ends the author's seat, so that also a server whose last seat ends with it learns of them.
    pub async fn newest_messages(&self, stream_id: i64, author: &Author) -> Result<Vec<Seq>, Error> {
        let pool = self.inner.storage.pool();
        store::newest_messages(pool, stream_id, author.account_id, ENTRIES_PER_SEARCH, MESSAGES_AT_ONCE).await
    }
}

impl StreamTx {
    /// Queues the erasure of all other messages that the author wrote before `left`, the entry that ended the seat.
    pub async fn erase_later(&mut self, author: &Author, left: Seq) -> Result<(), Error> {
        self.begin_writes().await?;
        let (stream_id, now) = (self.row().id, self.now());
        store::insert_job(self.conn(), stream_id, author, left, now).await?;
        self.wakes_erasure = true;
        Ok(())
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken, beat: Beat) {
    loop {
        beat.beat();
        let pause = match step(&log).await {
            Ok(true) => PAUSE,
            Ok(false) => POLL,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to erase messages of an account that left"
                );
                POLL
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = log.inner.erasure_wake.notified(), if pause == POLL => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One step of the job that waits longest; whether there was one.
async fn step(log: &Log) -> Result<bool, Error> {
    let pool = log.inner.storage.pool();
    let Some(job) = store::next_job(pool).await? else { return Ok(false) };
    let found = store::find_messages(pool, &job, ENTRIES_PER_SEARCH, MESSAGES_PER_STEP).await?;
    match erase(log, &job, found).await {
        // Another instance was quicker, or another writer: the next step finds out.
        Ok(()) | Err(Error::Overtaken) => {}
        Err(Error::Halted(_) | Error::Refused(Refusal { name: "NotHome", .. })) => {
            // When the contents have aged out there is nothing left to erase.
            let aged_out = super::retention::messages_aged_before(log);
            store::put_off(pool, &job, PUT_OFF, aged_out).await?;
        }
        Err(error) => {
            // One stream's trouble must not hold back the jobs of others.
            store::put_off(pool, &job, PUT_OFF, super::retention::messages_aged_before(log)).await?;
            return Err(error);
        }
    }
    Ok(true)
}

async fn erase(log: &Log, job: &Job, found: Found) -> Result<(), Error> {
    let mut tx = log.lock(job.stream_id).await?;
    // Every step of this job holds the stream's lock: what is read here stays.
    if store::done(tx.conn(), job.id).await? != Some(job.done) {
        return tx.rollback().await;
    }
    tx.begin_writes().await?;
    if !found.messages.is_empty() {
        let by = Seat::of_former_member(&job.author);
        let body = ErasedBody { seqs: found.messages }.encode()?;
        tx.append(&by, Draft { kind: EntryKind::Erased, epoch: None, body, identity: None }).await?;
    }
    if found.looked_through >= job.through {
        store::delete_job(tx.conn(), job.id).await?;
    } else {
        store::advance(tx.conn(), job.id, found.looked_through).await?;
    }
    tx.commit().await
}
