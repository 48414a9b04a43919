//! The quick path: heads, rights and recent identities in memory, one statement a batch.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::store::{self, EntryColumns, HeadColumns};
use super::{Answer, Application, BATCH_BYTES, BATCH_ITEMS, Job, JobReply, Right, Rights, judge_epoch, locked};
use crate::log::retention::identities_forgotten_before;
use crate::log::store::{Accepted, StreamRow, streams};
use crate::log::{Content, EntryKind, Error, Log};
use crate::storage::{self, PgConnection};
use crate::telemetry::metric_name;
use crate::types::Refusal;
use crate::worker::Beat;

/// Streams whose heads are in memory; beyond it the memory is cleared.
const CACHED_STREAMS: usize = 20_000;
/// Recent identities kept, so that a quick retry does not reach the statement.
const RECENT_IDENTITIES: u64 = 50_000;

/// The writer's cached state of a stream. The compare-and-set on `head_seq` and `rules` detects stale state.
struct Known {
    row: StreamRow,
    /// By device row.
    rights: HashMap<i64, Right>,
}

pub(super) struct Batcher {
    log: Log,
    connection: Option<PgConnection>,
    known: HashMap<i64, Known>,
    recent: Recent,
    tasks: TaskTracker,
}

/// First answers of the last calls, by stream and identity.
type Recent = moka::sync::Cache<(i64, uuid::Uuid), Arc<Accepted>>;

/// A waiting item. Concurrent repeats of its call share its answer.
struct Waiting {
    item: Application,
    replies: Vec<JobReply>,
}

impl Batcher {
    pub(super) fn new(log: Log, tasks: TaskTracker) -> Self {
        Self { log, connection: None, known: HashMap::new(), recent: Recent::new(RECENT_IDENTITIES), tasks }
    }

    /// Writes all of `jobs`, in batches of limited bytes, and answers each.
    pub(super) async fn write_all(&mut self, jobs: &mut Vec<Job>, beat: &Beat) {
        let mut rest = std::mem::take(jobs).into_iter().peekable();
        while rest.peek().is_some() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(job) = rest.next_if(|job| {
                batch.is_empty() || (batch.len() < BATCH_ITEMS && bytes + job.item.body.len() <= BATCH_BYTES)
            }) {
                bytes += job.item.body.len();
                batch.push(job);
            }
            beat.beat();
            let waiting = self.merge_repeats(batch);
            self.write(waiting).await;
        }
    }

    /// Answers what was just answered, and lets repeats within the batch wait for the first.
    fn merge_repeats(&self, batch: Vec<Job>) -> Vec<Waiting> {
        let mut waiting: Vec<Waiting> = Vec::with_capacity(batch.len());
        let mut by_identity: HashMap<(i64, uuid::Uuid), usize> = HashMap::new();
        let forgotten = identities_forgotten_before(self.log.clock().now());
        for Job { item, reply } in batch {
            let key = (item.stream.id, item.identity.idem);
            if let Some(accepted) = self.recent.get(&key).filter(|accepted| accepted.time >= forgotten) {
                answer(reply, Accepted::clone(&accepted).answer_to(&item.identity).map_err(Error::from));
                continue;
            }
            match by_identity.get(&key) {
                Some(&first) if waiting[first].item.identity == item.identity => waiting[first].replies.push(reply),
                Some(_) => answer(
                    reply,
                    Err(Refusal::new("IdempotencyConflict", "this idem was used before, with another request").into()),
                ),
                None => {
                    by_identity.insert(key, waiting.len());
                    waiting.push(Waiting { item, replies: vec![reply] });
                }
            }
        }
        waiting
    }

    async fn write(&mut self, waiting: Vec<Waiting>) {
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
        match self.write_quickly(&mut connection, waiting).await {
            Ok(behind) => {
                self.connection = Some(connection);
                self.write_locked(behind);
            }
            // The statement may or may not have been committed: the locked path looks before it writes.
            Err((error, waiting)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the log writer lost its connection");
                self.known.clear();
                self.write_locked(waiting);
            }
        }
    }

    /// One statement for all that can be judged from memory. Returns what has to be judged under the lock.
    async fn write_quickly(
        &mut self,
        connection: &mut PgConnection,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<Waiting>, (Error, Vec<Waiting>)> {
        if let Err(error) = self.learn(connection, &waiting).await {
            return Err((error, waiting));
        }
        let now = self.log.entry_time();
        let past_epochs = self.log.past_epochs();
        let mut entries = EntryColumns::default();
        let mut heads = HeadColumns::default();
        let mut by_stream: BTreeMap<i64, Vec<Waiting>> = BTreeMap::new();
        for one in waiting {
            by_stream.entry(one.item.stream.id).or_default().push(one);
        }
        let mut behind = Vec::new();
        let mut written: Vec<(i64, Vec<(Waiting, Accepted)>)> = Vec::new();
        for (stream_id, items) in by_stream {
            let known = self.known.get_mut(&stream_id).filter(|known| self.log.orders(&known.row));
            let Some(known) = known else {
                behind.extend(items);
                continue;
            };
            let mut head = known.row.head();
            let mut accepted = Vec::with_capacity(items.len());
            for one in items {
                let right = known.rights.get(&one.item.author.device_row).copied().unwrap_or(Right::NONE);
                let judged = right
                    .judge()
                    .and_then(|()| judge_epoch(one.item.epoch, known.row.epoch, known.row.epoch_floor, past_epochs));
                // A refusal is answered only after a look, under the lock, for an earlier answer to the call. Sealing
                // moves the head, so only what will be written is sealed: a number without its entry would be a hole.
                let content = Content::new(one.item.body.clone(), None);
                let (kind, epoch) = (EntryKind::Message, Some(one.item.epoch));
                let sealed = judged.ok().and_then(|()| head.seal(kind, epoch, &content, now).ok());
                let Some(sealed) = sealed else {
                    behind.push(one);
                    continue;
                };
                entries.push(stream_id, &one.item, &sealed);
                accepted.push((Accepted::of(&sealed, epoch, Some(one.item.identity)), one));
            }
            if accepted.is_empty() {
                continue;
            }
            heads.push(&known.row, &head, entries.len());
            written.push((stream_id, accepted.into_iter().map(|(a, w)| (w, a)).collect()));
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
                for (stream_id, items) in written {
                    match winners.get(&stream_id) {
                        Some(&head_pos) => {
                            greatest = greatest.max(head_pos);
                            self.settle(stream_id, head_pos, items);
                        }
                        None => {
                            self.known.remove(&stream_id);
                            behind.extend(items.into_iter().map(|(one, _)| one));
                        }
                    }
                }
                if greatest > 0 {
                    self.log.inner.hub.wake(greatest);
                }
                Ok(behind)
            }
            // An identity that is already there: the whole statement fell, and each is looked at under its lock.
            Err(storage::Error::Constraint { .. } | storage::Error::Collision(_)) => {
                for (stream_id, items) in written {
                    self.known.remove(&stream_id);
                    behind.extend(items.into_iter().map(|(one, _)| one));
                }
                Ok(behind)
            }
            Err(error) => {
                behind.extend(written.into_iter().flat_map(|(_, items)| items.into_iter().map(|(one, _)| one)));
                Err((error.into(), behind))
            }
        }
    }

    /// Reads the rows and rights that this batch needs and memory lacks. Rows first: rights that are newer than their
    /// row make the compare-and-set on `rules` fail, never pass wrongly.
    async fn learn(&mut self, connection: &mut PgConnection, waiting: &[Waiting]) -> Result<(), Error> {
        if self.known.len() > CACHED_STREAMS {
            self.known.clear();
        }
        let mut missing: Vec<i64> =
            waiting.iter().map(|one| one.item.stream.id).filter(|id| !self.known.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            for row in streams(connection, &missing).await? {
                self.known.insert(row.id, Known { row, rights: HashMap::new() });
            }
        }
        let mut pairs: Vec<(i64, i64)> = waiting
            .iter()
            .map(|one| (one.item.stream.id, one.item.author.device_row))
            .filter(|(stream_id, device_row)| {
                self.known.get(stream_id).is_some_and(|known| !known.rights.contains_key(device_row))
            })
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        if !pairs.is_empty() {
            let rights: Rights = store::rights(connection, &pairs).await?;
            for ((stream_id, device_row), right) in rights {
                if let Some(known) = self.known.get_mut(&stream_id) {
                    known.rights.insert(device_row, right);
                }
            }
        }
        Ok(())
    }

    /// After the commit: updates the memory, and answers all callers.
    fn settle(&mut self, stream_id: i64, head_pos: i64, items: Vec<(Waiting, Accepted)>) {
        if let (Some(known), Some((_, last))) = (self.known.get_mut(&stream_id), items.last()) {
            known.row.head_pos = head_pos;
            (known.row.head_seq, known.row.head_hash) = (last.seq, last.hash);
            known.row.head_time = last.time;
        }
        metrics::counter!(metric_name::LOG_ENTRIES, "kind" => EntryKind::Message.name()).increment(items.len() as u64);
        for (one, accepted) in items {
            remember(&self.recent, &one.item, &accepted);
            for reply in one.replies {
                answer(reply, Ok(accepted.clone()));
            }
        }
    }

    /// Judges and writes stream by stream under the lock, each in a task of its own: a stream that somebody holds makes
    /// nobody else wait.
    fn write_locked(&mut self, behind: Vec<Waiting>) {
        let mut by_stream: BTreeMap<i64, Vec<Waiting>> = BTreeMap::new();
        for one in behind {
            by_stream.entry(one.item.stream.id).or_default().push(one);
        }
        for (stream_id, waiting) in by_stream {
            self.known.remove(&stream_id);
            metrics::counter!(metric_name::LOG_LOCKED_ITEMS).increment(waiting.len() as u64);
            self.tasks.spawn(settle_locked(self.log.clone(), self.recent.clone(), stream_id, waiting));
        }
    }
}

async fn settle_locked(log: Log, recent: Recent, stream_id: i64, waiting: Vec<Waiting>) {
    let items: Vec<&Application> = waiting.iter().map(|one| &one.item).collect();
    match locked::append(&log, stream_id, &items).await {
        Ok(answers) => {
            for (one, outcome) in waiting.into_iter().zip(answers) {
                if let Ok(accepted) = &outcome {
                    remember(&recent, &one.item, accepted);
                }
                for reply in one.replies {
                    answer(reply, outcome.clone().map_err(Error::from));
                }
            }
        }
        // What was accepted before it was halted is answered again.
        Err(Error::Halted(state)) => {
            for one in waiting {
                let first = log.repeated(stream_id, &one.item.identity).await;
                for reply in one.replies {
                    answer(
                        reply,
                        match &first {
                            Ok(Some(accepted)) => Ok(accepted.clone()),
                            Err(Error::Refused(refusal)) => Err(refusal.clone().into()),
                            _ => Err(Error::Halted(state)),
                        },
                    );
                }
            }
        }
        Err(error) => fail(waiting, &error),
    }
}

fn remember(recent: &Recent, item: &Application, accepted: &Accepted) {
    recent.insert((item.stream.id, item.identity.idem), Arc::new(accepted.clone()));
}

fn answer(reply: JobReply, outcome: Answer) {
    reply.send(outcome);
}

/// Nothing is known to have been written: every client repeats with the same `idem`.
fn fail(waiting: Vec<Waiting>, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, items = waiting.len(), "the log writer could not write a batch");
    for reply in waiting.into_iter().flat_map(|one| one.replies) {
        answer(reply, Err(Error::Busy));
    }
}
