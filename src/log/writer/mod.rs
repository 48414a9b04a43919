//! Group commit: methods that only append hand their entries in here, and one statement writes what many have sent.
//!
//! Invariants: nobody is told of success before the commit; one refused item never fails its neighbours; a batch is
//! written only onto the heads and rights it was judged against (compare-and-set); otherwise it is read and judged once
//! more, and then under the stream's lock.

mod batch;
mod known;
mod locked;
mod store;
mod waiting;

pub(super) use store::{EntryColumns, NewEntry, insert_entries};

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::flow::UnansweredJob;
use super::store::Accepted;
use super::{Author, AuthorState, CallIdentity, Error, Log, StreamInfo, StreamKind};
use crate::quota::{ConvoQuota, QuotaExceeded};
use crate::types::{Epoch, Refusal, Seq};
use crate::worker::Beat;

/// Limits of the writer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Items that may wait. The writer refuses a further item as `Unavailable`, and a body beyond the bytes that may
    /// wait.
    pub queue_items: usize,
    /// How many epochs back an application message may come from. RFC 9420 clients keep a few past epochs.
    pub past_epochs: u64,
    /// What one conversation may hold.
    pub convo_quota: ConvoQuota,
}

/// Items in one batch at most, and the bytes at which it is full.
const BATCH_ITEMS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;
/// Bytes of all bodies that wait for the writer's answer, and the bytes of one permit.
const QUEUE_BYTES: usize = 64 << 20;
const PERMIT_BYTES: usize = 1 << 10;

/// A parsed MLS application message, to append as `#message`.
#[derive(Clone, Debug)]
pub struct Application {
    pub stream: Arc<StreamInfo>,
    pub author: Author,
    pub identity: CallIdentity,
    /// From the message's own header.
    pub epoch: Epoch,
    pub body: Vec<u8>,
}

impl Application {
    /// Judges the entry against the quota of its conversation, which holds `held` bytes, and `added` more with the
    /// earlier entries of the batch.
    fn judge_quota(&self, quota: ConvoQuota, held: i64, added: usize, head: Seq) -> Result<(), QuotaExceeded> {
        if self.stream.kind != StreamKind::Convo {
            return Ok(());
        }
        let held = u64::try_from(held).unwrap_or_default().saturating_add(added as u64);
        quota.judge(held, head.0, self.body.len())
    }
}

type Answer = Result<Accepted, Error>;

pub(super) struct Job {
    item: Application,
    reply: JobReply,
}

/// The reply channel of one job, which counts as unanswered until the reply is sent or dropped.
struct JobReply {
    sender: oneshot::Sender<Answer>,
    _unanswered: UnansweredJob,
    /// The memory held for the job's body.
    _memory: OwnedSemaphorePermit,
}

impl JobReply {
    /// The caller may be gone: what was written stays written.
    fn send(self, answer: Answer) {
        let _gone = self.sender.send(answer);
    }
}

/// The writer's door.
pub(super) struct Handle {
    sender: mpsc::Sender<Job>,
    memory: Arc<Semaphore>,
    settings: Settings,
}

impl Handle {
    pub(super) fn new(settings: Settings) -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(settings.queue_items.max(1));
        let memory = Arc::new(Semaphore::new(QUEUE_BYTES / PERMIT_BYTES));
        (Self { sender, memory, settings }, receiver)
    }
}

impl Log {
    /// Appends an application message and returns once it is durable.
    pub async fn submit(&self, item: Application) -> Answer {
        let (sender, answer) = oneshot::channel();
        let permits = u32::try_from(item.body.len().div_ceil(PERMIT_BYTES)).map_err(|_| Error::Busy)?;
        let memory = Arc::clone(&self.inner.writer.memory).try_acquire_many_owned(permits).map_err(|_| Error::Busy)?;
        let reply = JobReply { sender, _unanswered: self.inner.flow.job_submitted(), _memory: memory };
        self.inner.writer.sender.try_send(Job { item, reply }).map_err(|_| Error::Busy)?;
        // The writer drops a reply only when the server stops: whether it was written is then unknown to us.
        answer.await.unwrap_or(Err(Error::Busy))
    }

    pub(super) fn convo_quota(&self) -> ConvoQuota {
        self.inner.writer.settings.convo_quota
    }

    pub(super) fn past_epochs(&self) -> u64 {
        self.inner.writer.settings.past_epochs
    }
}

/// Runs until `stop`, then writes what had already been handed in.
pub(super) async fn run(
    log: Log,
    mut queue: mpsc::Receiver<Job>,
    tasks: TaskTracker,
    stop: CancellationToken,
    beat: Beat,
) {
    let mut batcher = batch::Batcher::new(log, tasks);
    let mut jobs = Vec::with_capacity(BATCH_ITEMS);
    loop {
        beat.rest();
        tokio::select! {
            biased;
            count = queue.recv_many(&mut jobs, BATCH_ITEMS) => if count == 0 { return },
            () = batcher.returned() => {}
            () = stop.cancelled() => {
                queue.close();
                while queue.recv_many(&mut jobs, BATCH_ITEMS).await > 0 {
                    batcher.write_all(&mut jobs, &beat).await;
                }
                batcher.finish(&beat).await;
                return;
            }
        }
        beat.beat();
        batcher.write_all(&mut jobs, &beat).await;
    }
}

/// Whether this message's epoch is still, and already, accepted.
fn judge_epoch(epoch: Epoch, current: Epoch, floor: Epoch, past_epochs: u64) -> Result<(), Refusal> {
    use crate::types::Detail;
    let oldest = Epoch(current.0.saturating_sub(past_epochs)).max(floor);
    if epoch > current {
        let detail = Detail::new(format!("the group is at epoch {current}")).with("currentEpoch", current.0);
        return Err(Refusal::new("FutureEpoch", detail));
    }
    if epoch < oldest {
        let detail = Detail::new(format!("the group is at epoch {current} and takes messages from epoch {oldest} on"))
            .with("currentEpoch", current.0)
            .with("oldestEpoch", oldest.0);
        return Err(Refusal::new("EpochTooOld", detail));
    }
    Ok(())
}

/// The rights of a device in a stream, as read beside the stream's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Right {
    seat: SeatRight,
    has_leaf: bool,
}

/// The rights of an account's seat in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SeatRight {
    Never,
    Ended,
    /// Its role is of a later version: it reads.
    UnknownRole,
    Open,
}

impl Right {
    const NONE: Self = Self { seat: SeatRight::Never, has_leaf: false };

    fn judge(self) -> Result<(), Refusal> {
        match self.seat {
            SeatRight::Never => Err(super::append::no_seat(false)),
            SeatRight::Ended => Err(super::append::no_seat(true)),
            SeatRight::UnknownRole => Err(super::append::role_unknown()),
            SeatRight::Open if !self.has_leaf => Err(super::append::device_not_in_group()),
            SeatRight::Open => Ok(()),
        }
    }
}

/// Why an item is not appended.
#[derive(Clone, Debug)]
enum Refused {
    Named(Refusal),
    Author(AuthorState),
    Quota(QuotaExceeded),
}

impl Refused {
    fn judge(author: AuthorState) -> Result<(), Self> {
        if author == AuthorState::Active { Ok(()) } else { Err(Self::Author(author)) }
    }
}

impl From<QuotaExceeded> for Refused {
    fn from(exceeded: QuotaExceeded) -> Self {
        Self::Quota(exceeded)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self::Named(refusal)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Named(refusal) => refusal.into(),
            Refused::Author(state) => Self::AuthorEnded(state),
            Refused::Quota(exceeded) => exceeded.into(),
        }
    }
}

type Rights = HashMap<(i64, i64), Right>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_epochs_ends_at_the_present_and_at_the_last_removal() {
        let judge =
            |epoch, current, floor| judge_epoch(Epoch(epoch), Epoch(current), Epoch(floor), 5).map_err(|r| r.name);
        assert_eq!(judge(10, 10, 0), Ok(()));
        assert_eq!(judge(5, 10, 0), Ok(()));
        assert_eq!(judge(4, 10, 0), Err("EpochTooOld"));
        assert_eq!(judge(11, 10, 0), Err("FutureEpoch"));
        assert_eq!(judge(8, 10, 9), Err("EpochTooOld"), "never from before a removal");
        assert_eq!(judge(0, 2, 0), Ok(()));
    }
}
