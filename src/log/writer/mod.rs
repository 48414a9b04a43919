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

pub(super) use store::{EntryColumns, insert_entries};

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::store::Accepted;
use super::{Author, AuthorState, CallIdentity, EntryKind, Error, Log, StreamInfo, StreamKind};
use crate::quota::{ConvoQuota, QuotaExceeded};
use crate::types::{Epoch, Refusal, Seq};

/// Limits of the writer.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Items that may wait; one more is refused with `Unavailable`.
    pub queue_items: usize,
    /// How many epochs back an application message may come from. RFC 9420 clients keep a few past epochs.
    pub past_epochs: u64,
    /// What one conversation may hold.
    pub convo_quota: ConvoQuota,
}

/// Items in one batch at most, and the bytes at which it is full.
const BATCH_ITEMS: usize = 512;
const BATCH_BYTES: usize = 1 << 20;

/// An MLS application message, parsed, to be appended as `#message`; or a canary.
#[derive(Clone, Debug)]
pub struct Application {
    pub stream: Arc<StreamInfo>,
    /// Nobody sends canaries.
    pub author: Option<Author>,
    pub identity: CallIdentity,
    /// From the message's own header.
    pub epoch: Epoch,
    pub body: Vec<u8>,
}

impl Application {
    pub(super) fn kind(&self) -> EntryKind {
        if self.author.is_some() { EntryKind::Message } else { EntryKind::Canary }
    }

    /// As the entry's header names it.
    pub(super) fn entry_epoch(&self) -> Option<Epoch> {
        self.author.is_some().then_some(self.epoch)
    }

    /// Whether its conversation takes it, which holds so many bytes, and will hold `added` more with what was judged
    /// before.
    fn judge_quota(&self, quota: ConvoQuota, held: i64, added: usize, head: Seq) -> Result<(), QuotaExceeded> {
        if self.stream.kind != StreamKind::Convo {
            return Ok(());
        }
        let held = u64::try_from(held).unwrap_or_default().saturating_add(added as u64);
        quota.judge(held, head.0, self.body.len())
    }

    /// Its author's right, by device row; without one, that of canaries in their own streams.
    fn right(&self, of_device: impl FnOnce(i64) -> Option<Right>) -> Right {
        match &self.author {
            Some(author) => of_device(author.device_row).unwrap_or(Right::NONE),
            None if self.stream.kind == StreamKind::Canary => Right::ALL,
            None => Right::NONE,
        }
    }
}

type Answer = Result<Accepted, Error>;

pub(super) struct Job {
    item: Application,
    reply: oneshot::Sender<Answer>,
}

/// The writer's door.
pub(super) struct Handle {
    sender: mpsc::Sender<Job>,
    settings: Settings,
}

impl Handle {
    pub(super) fn new(settings: Settings) -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(settings.queue_items.max(1));
        (Self { sender, settings }, receiver)
    }
}

impl Log {
    /// Appends an application message and returns once it is durable.
    pub async fn submit(&self, item: Application) -> Answer {
        let (reply, answer) = oneshot::channel();
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
pub(super) async fn run(log: Log, mut queue: mpsc::Receiver<Job>, tasks: TaskTracker, stop: CancellationToken) {
    let mut batcher = batch::Batcher::new(log, tasks);
    let mut jobs = Vec::with_capacity(BATCH_ITEMS);
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut jobs, BATCH_ITEMS) => if count == 0 { return },
            () = stop.cancelled() => {
                queue.close();
                while queue.recv_many(&mut jobs, BATCH_ITEMS).await > 0 {
                    batcher.write_all(&mut jobs).await;
                }
                return;
            }
        }
        batcher.write_all(&mut jobs).await;
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

/// What a device may do in a stream, as read beside its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Right {
    was_seated: bool,
    has_seat: bool,
    has_leaf: bool,
}

impl Right {
    const NONE: Self = Self { was_seated: false, has_seat: false, has_leaf: false };
    const ALL: Self = Self { was_seated: true, has_seat: true, has_leaf: true };

    fn judge(self) -> Result<(), Refusal> {
        match self {
            Self { has_seat: false, was_seated, .. } => Err(super::append::no_seat(was_seated)),
            Self { has_leaf: false, .. } => Err(super::append::device_not_in_group()),
            Self { .. } => Ok(()),
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
