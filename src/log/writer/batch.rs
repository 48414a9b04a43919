//! The quick path: heads, rights and recent identities in memory, one statement a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::known::KnownStreams;
use super::locked::LockedStreams;
use super::store::{self, EntryColumns, HeadColumns, NewEntry};
use super::waiting::{Recent, Waiting, answer, fail, merge, next_batch, remember};
use super::{Job, Refused, Right, judge_epoch};
use crate::log::partitions::TimePartitions;
use crate::log::retention::identities_forgotten_before;
use crate::log::store::{Accepted, FirstAnswer};
use crate::log::{Content, EntryKind, Error, Log};
use crate::storage::{self, PgConnection};
use crate::telemetry::metric_name;
use crate::worker::Beat;

/// Recent identities kept, so that a quick retry does not reach the database.
const RECENT_IDENTITIES: u64 = 50_000;
/// One stream's part of the items that may wait.
const QUEUES: usize = 8;

pub(super) struct Batcher {
    log: Log,
    connection: Option<PgConnection>,
    known: KnownStreams,
    recent: Recent,
    locked: Arc<LockedStreams>,
}

/// How sure a judgement is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Memory may be behind.
    Memory,
    /// Rows and rights were read for this batch.
    Fresh,
}

/// Entries of one stream in the batch, with the answers that they will have.
struct Written {
    stream_id: i64,
    items: Vec<(Waiting, Accepted)>,
    bytes: usize,
}

impl Written {
    fn into_waiting(self) -> impl Iterator<Item = Waiting> {
        self.items.into_iter().map(|(one, _)| one)
    }
}

impl Batcher {
    pub(super) fn new(log: Log, tasks: TaskTracker) -> Self {
        let recent = Recent::new(RECENT_IDENTITIES);
        let queue_items = (log.inner.writer.settings.queue_items / QUEUES).max(1);
        let locked = Arc::new(LockedStreams::new(log.clone(), recent.clone(), tasks, queue_items));
        Self { log, connection: None, known: KnownStreams::default(), recent, locked }
    }

    /// Waits until items have come back from the locked path.
    pub(super) async fn returned(&self) {
        self.locked.task_ended().await;
    }

    /// Waits for the tasks of the locked path, and writes the items that come back from them.
    pub(super) async fn finish(&mut self, beat: &Beat) {
        while !self.locked.is_idle() {
            beat.rest();
            self.returned().await;
            self.write_all(&mut Vec::new(), beat).await;
        }
    }

    /// Writes all of `jobs`, and before them the items that came back from the locked path, in batches of limited bytes;
    /// answers each.
    pub(super) async fn write_all(&mut self, jobs: &mut Vec<Job>, beat: &Beat) {
        let mut rest = self.locked.take_returned();
        rest.extend(jobs.drain(..).filter_map(|job| self.repeat(job)));
        while !rest.is_empty() {
            beat.beat();
            let batch = merge(next_batch(&mut rest));
            self.write(batch).await;
        }
    }

    /// Answers a repeated call from the recent answers; returns a job that needs a write or a look-up.
    fn repeat(&self, Job { item, reply }: Job) -> Option<Waiting> {
        let forgotten = identities_forgotten_before(self.log.clock().now());
        let found = self.recent.get(&(item.stream.id, item.identity.idem));
        match found.filter(|accepted| accepted.time >= forgotten) {
            Some(accepted) => {
                answer(reply, Accepted::clone(&accepted).answer_to(&item.identity).map_err(Error::from));
                None
            }
            None => Some(Waiting { item, replies: vec![reply] }),
        }
    }

    async fn write(&mut self, waiting: Vec<Waiting>) {
        let waiting = self.locked.join(waiting);
        if waiting.is_empty() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 512")]
        metrics::histogram!(metric_name::LOG_BATCH_ITEMS).record(waiting.len() as f64);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.log.inner.storage.dedicated().await {
                Ok(connection) => connection,
                Err(error) => return fail(waiting, &error),
            },
        };
        if let Err(error) = self.log.ensure_partitions_on(&mut connection).await {
            return fail(waiting, &error);
        }
        match self.write_quickly(&mut connection, waiting).await {
            Ok(behind) => {
                self.connection = Some(connection);
                self.locked.write(behind);
            }
            // The statement may or may not have been committed: the locked path looks before it writes.
            Err((error, waiting)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the log writer lost its connection");
                self.known.forget_all();
                self.locked.write(waiting);
            }
        }
    }

    /// What memory is wrong about, or refuses, is read and judged once more. Returns what has to be written under the
    /// lock.
    async fn write_quickly(
        &mut self,
        connection: &mut PgConnection,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<Waiting>, (Error, Vec<Waiting>)> {
        let doubtful = self.pass(connection, waiting, Reading::Memory).await?;
        if doubtful.is_empty() {
            return Ok(doubtful);
        }
        for one in &doubtful {
            self.known.forget(one.item.stream.id);
        }
        self.pass(connection, doubtful, Reading::Fresh).await
    }

    /// One statement for all that can be judged from memory. Returns what could not.
    async fn pass(
        &mut self,
        connection: &mut PgConnection,
        waiting: Vec<Waiting>,
        reading: Reading,
    ) -> Result<Vec<Waiting>, (Error, Vec<Waiting>)> {
        let now = self.log.clock().now();
        let first_answers = match self.known.learn(connection, &waiting, now).await {
            Ok(first_answers) => first_answers,
            Err(error) => return Err((error, waiting)),
        };
        let mut by_stream: BTreeMap<i64, Vec<(Waiting, FirstAnswer)>> = BTreeMap::new();
        for (one, first) in waiting.into_iter().zip(first_answers) {
            by_stream.entry(one.item.stream.id).or_default().push((one, first));
        }
        let (mut entries, mut heads) = (EntryColumns::at(TimePartitions::at(now)), HeadColumns::default());
        let (mut behind, mut written): (_, Vec<Written>) = (Vec::new(), Vec::new());
        for (stream_id, items) in by_stream {
            let sealed = self.judge(stream_id, items, reading, (&mut entries, &mut heads), &mut behind);
            written.extend((!sealed.items.is_empty()).then_some(sealed));
        }
        if written.is_empty() {
            return Ok(behind);
        }
        let started = std::time::Instant::now();
        let outcome = store::write_batch(connection, self.log.inner.incarnation, &heads, &entries).await;
        metrics::histogram!(metric_name::LOG_BATCH_SECONDS).record(started.elapsed().as_secs_f64());
        match outcome {
            Ok(winners) => {
                let mut greatest = 0;
                for written in written {
                    match winners.get(&written.stream_id) {
                        Some(&head_pos) => {
                            greatest = greatest.max(head_pos);
                            self.settle(written, head_pos);
                        }
                        None => behind.extend(written.into_waiting()),
                    }
                }
                if greatest > 0 {
                    self.log.inner.hub.wake(greatest);
                }
                Ok(behind)
            }
            // Nothing was written. It should not happen: identities are read before.
            Err(storage::Error::Constraint { .. } | storage::Error::Collision(_)) => {
                behind.extend(written.into_iter().flat_map(Written::into_waiting));
                Ok(behind)
            }
            Err(error) => {
                behind.extend(written.into_iter().flat_map(Written::into_waiting));
                Err((error.into(), behind))
            }
        }
    }

    /// Judges the items of one stream, and seals those that may be appended. Answers repeats; refuses, after a fresh
    /// reading.
    fn judge(
        &mut self,
        stream_id: i64,
        items: Vec<(Waiting, FirstAnswer)>,
        reading: Reading,
        (entries, heads): (&mut EntryColumns, &mut HeadColumns),
        behind: &mut Vec<Waiting>,
    ) -> Written {
        let (now, past_epochs, quota) = (self.log.entry_time(), self.log.past_epochs(), self.log.convo_quota());
        let mut accepted = Vec::with_capacity(items.len());
        let known = self.known.get_mut(stream_id).filter(|known| self.log.orders(&known.row));
        let mut head = known.as_ref().map(|known| known.row.head());
        let mut bytes = 0;
        for (one, first) in items {
            if let Some(found) = first.accepted {
                match found.answer_to(&one.item.identity) {
                    Ok(found) => tell(&self.recent, one, &found),
                    Err(refusal) => one.answer_refused(&refusal),
                }
                continue;
            }
            let (Some(known), Some(head)) = (&known, &mut head) else {
                behind.push(one);
                continue;
            };
            let right = known.rights.get(&one.item.author.device_row).copied().unwrap_or(Right::NONE);
            let (epoch, floor) = (known.row.epoch, known.row.epoch_floor);
            let judged = Refused::judge(first.author)
                .and_then(|()| Ok(right.judge()?))
                .and_then(|()| Ok(judge_epoch(one.item.epoch, epoch, floor, past_epochs)?))
                .and_then(|()| Ok(one.item.judge_quota(quota, known.row.held_bytes, bytes, head.seq)?));
            if let Err(refused) = judged {
                if reading == Reading::Fresh {
                    one.answer_refused(&refused);
                } else {
                    behind.push(one);
                }
                continue;
            }
            // Sealing moves the head, so only what will be written is sealed: a number without its entry would be a hole.
            let content = Content::new(one.item.body.clone(), None);
            let (kind, epoch) = (EntryKind::Message, Some(one.item.epoch));
            match head.seal(kind, epoch, &content, now) {
                Ok(sealed) => {
                    bytes += sealed.size_bytes();
                    let answer = Accepted::of(&sealed, epoch, Some(one.item.identity));
                    entries.push(stream_id, &NewEntry::of(&one.item), sealed);
                    accepted.push((one, answer));
                }
                Err(_) => behind.push(one),
            }
        }
        if let (Some(known), Some(head), false) = (&known, &head, accepted.is_empty()) {
            heads.push(&known.row, head, entries.len(), bytes);
        }
        Written { stream_id, items: accepted, bytes }
    }

    /// After the commit: memory follows, everybody is told.
    fn settle(&mut self, Written { stream_id, items, bytes }: Written, head_pos: i64) {
        if let (Some(known), Some((_, last))) = (self.known.get_mut(stream_id), items.last()) {
            known.row.head_pos = head_pos;
            (known.row.head_seq, known.row.head_hash) = (last.seq, last.hash);
            known.row.head_time = last.time;
            known.row.held_bytes = known.row.held_bytes.saturating_add_unsigned(bytes as u64);
        }
        metrics::counter!(metric_name::LOG_ENTRIES, "kind" => EntryKind::Message.name()).increment(items.len() as u64);
        for (one, accepted) in items {
            tell(&self.recent, one, &accepted);
        }
    }
}

fn tell(recent: &Recent, one: Waiting, accepted: &Accepted) {
    remember(recent, &one.item, accepted);
    for reply in one.replies {
        answer(reply, Ok(accepted.clone()));
    }
}
