//! The careful path: one stream, its lock held, everything read afresh.
//!
//! Invariant: one task writes a stream under its lock. Items that arrive for that stream meanwhile wait for this task, take
//! no connection of their own, and go back to the quick path when the task ends: under steady traffic some item always
//! waits, and a task that wrote those items too would never end.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::waiting::{Recent, Waiting, answer, fail, merge, next_batch, remember};
use super::{Application, Refused, Right, judge_epoch, store};
use crate::log::store::{Accepted, first_answers};
use crate::log::{Error, Log};
use crate::telemetry::metric_name;

/// Streams that tasks are writing under their locks, each with the items that wait for its task.
pub(super) struct LockedStreams {
    log: Log,
    recent: Recent,
    tasks: TaskTracker,
    /// Items of one stream that may wait; one more is answered `Busy`.
    queue_items: usize,
    queues: Mutex<HashMap<i64, Vec<Waiting>>>,
    /// Items that waited for a task that has ended.
    returned: Mutex<Vec<Waiting>>,
    /// Notified at the end of each task.
    ended: Notify,
}

impl LockedStreams {
    pub(super) fn new(log: Log, recent: Recent, tasks: TaskTracker, queue_items: usize) -> Self {
        let (queues, returned) = (Mutex::default(), Mutex::default());
        Self { log, recent, tasks, queue_items, queues, returned, ended: Notify::new() }
    }

    /// Waits until a task has ended since the last call.
    pub(super) async fn task_ended(&self) {
        self.ended.notified().await;
    }

    /// Whether no task runs and no item has come back.
    pub(super) fn is_idle(&self) -> bool {
        let queues = self.queues();
        queues.is_empty() && self.returned().is_empty()
    }

    /// Takes the items that waited for tasks that have ended.
    pub(super) fn take_returned(&self) -> Vec<Waiting> {
        std::mem::take(&mut *self.returned())
    }

    /// Queues the items of streams that a task is writing, and answers the others.
    pub(super) fn join(&self, waiting: Vec<Waiting>) -> Vec<Waiting> {
        let mut queues = self.queues();
        if queues.is_empty() {
            return waiting;
        }
        let mut others = Vec::with_capacity(waiting.len());
        for one in waiting {
            match queues.get_mut(&one.item.stream.id) {
                Some(queue) => self.push(queue, one),
                None => others.push(one),
            }
        }
        others
    }

    /// Judges and writes stream by stream under the lock, each in a task of its own: a stream that another transaction
    /// holds makes no other stream wait.
    pub(super) fn write(self: &Arc<Self>, behind: Vec<Waiting>) {
        let mut by_stream: BTreeMap<i64, Vec<Waiting>> = BTreeMap::new();
        for one in behind {
            by_stream.entry(one.item.stream.id).or_default().push(one);
        }
        for (stream_id, waiting) in by_stream {
            let mut queues = self.queues();
            if let Some(queue) = queues.get_mut(&stream_id) {
                for one in waiting {
                    self.push(queue, one);
                }
            } else {
                queues.insert(stream_id, Vec::new());
                metrics::counter!(metric_name::LOG_LOCKED_ITEMS).increment(waiting.len() as u64);
                self.tasks.spawn(Arc::clone(self).run(stream_id, waiting));
            }
        }
    }

    fn push(&self, queue: &mut Vec<Waiting>, one: Waiting) {
        if queue.len() < self.queue_items {
            queue.push(one);
        } else {
            one.replies.into_iter().for_each(|reply| answer(reply, Err(Error::Busy)));
        }
    }

    async fn run(self: Arc<Self>, stream_id: i64, mut waiting: Vec<Waiting>) {
        let _running = Running { streams: &self, stream_id };
        while !waiting.is_empty() {
            self.settle(stream_id, merge(next_batch(&mut waiting))).await;
        }
    }

    async fn settle(&self, stream_id: i64, waiting: Vec<Waiting>) {
        let items: Vec<&Application> = waiting.iter().map(|one| &one.item).collect();
        let appended = crate::storage::retrying(Error::is_collision, || append(&self.log, stream_id, &items)).await;
        match appended {
            Ok(answers) => {
                for (one, outcome) in waiting.into_iter().zip(answers) {
                    if let Ok(accepted) = &outcome {
                        remember(&self.recent, &one.item, accepted);
                    }
                    for reply in one.replies {
                        answer(reply, outcome.clone().map_err(Error::from));
                    }
                }
            }
            // What was accepted before the stream was halted is answered again.
            Err(Error::Halted(state)) => {
                for one in waiting {
                    let first = self.log.repeated(stream_id, &one.item.identity).await;
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
            Err(Error::Refused(refusal)) => {
                for reply in waiting.into_iter().flat_map(|one| one.replies) {
                    answer(reply, Err(refusal.clone().into()));
                }
            }
            Err(error) => fail(waiting, &error),
        }
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<i64, Vec<Waiting>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the queues, where both are.
    fn returned(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one task of a stream. However the task ends, its queue goes back to the quick path.
struct Running<'a> {
    streams: &'a LockedStreams,
    stream_id: i64,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut queues = self.streams.queues();
        let waited = queues.remove(&self.stream_id).unwrap_or_default();
        self.streams.returned().extend(waited);
        drop(queues);
        self.streams.ended.notify_one();
    }
}

/// Appends to one stream what may be appended, and answers each item in its place.
async fn append(log: &Log, stream_id: i64, items: &[&Application]) -> Result<Vec<Result<Accepted, Refused>>, Error> {
    let mut tx = log.lock(stream_id).await?;
    let pairs: Vec<(i64, i64)> = items.iter().map(|item| (stream_id, item.author.device_row)).collect();
    let rights = store::rights(tx.conn(), &pairs).await?;
    let first_answers = first_answers(tx.conn(), items, log.clock().now()).await?;
    let (epoch, floor) = (tx.row().epoch, tx.row().epoch_floor);
    let (quota, held, mut bytes) = (log.convo_quota(), tx.row().held_bytes, 0);
    // None: to be appended.
    let mut judged: Vec<Option<Result<Accepted, Refused>>> = Vec::with_capacity(items.len());
    for (item, first) in items.iter().zip(first_answers) {
        if let Some(accepted) = first.accepted {
            judged.push(Some(accepted.answer_to(&item.identity).map_err(Refused::from)));
            continue;
        }
        let right = rights.get(&(stream_id, item.author.device_row)).copied().unwrap_or(Right::NONE);
        let verdict = Refused::judge(first.author)
            .and_then(|()| Ok(right.judge()?))
            .and_then(|()| Ok(judge_epoch(item.epoch, epoch, floor, log.past_epochs())?))
            .and_then(|()| Ok(item.judge_quota(quota, held, bytes, tx.head().seq)?));
        if verdict.is_ok() {
            bytes += item.body.len();
        }
        judged.push(verdict.err().map(Err));
    }
    let taken = items.iter().zip(&judged).filter(|(_, verdict)| verdict.is_none());
    let taken: Vec<&Application> = taken.map(|(item, _)| *item).collect();
    if taken.is_empty() {
        tx.rollback().await?;
        return Ok(judged.into_iter().flatten().collect());
    }
    let mut sealed = tx.append_judged(&taken).await?.into_iter();
    tx.commit().await?;
    let answers = items.iter().zip(judged).map(|(item, verdict)| match verdict {
        Some(verdict) => Ok(verdict),
        None => {
            let sealed = sealed.next().ok_or(Error::Busy)?;
            Ok(Ok(Accepted::of(&sealed, Some(item.epoch), Some(item.identity))))
        }
    });
    answers.collect()
}
