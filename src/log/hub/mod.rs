//! The listeners of this instance, and the delivery of entries to them.
//!
//! Invariants: handing out never waits for a reader (a full buffer ends that subscription, it resumes by cursor); every
//! listener receives each entry that its seats cover once, in cursor order, beginning right after `position`; the lock
//! over all listeners is held while the hub looks up at most [`LISTENERS_AT_ONCE`] of them, and not while frames are
//! pushed.

mod mailbox;
mod state;

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::mailbox::Mailbox;
use self::state::{Live, State};
use super::frame::FrameWeight;
use super::relay::{Carried, Leaving};
use super::store::{self, SpanRow};
use super::{Error, Frame, Log, Signal};
use crate::config::SubscriberBuffer;
use crate::types::{Cursor, StreamId};

/// Listeners that the hub looks up under one hold of its lock.
const LISTENERS_AT_ONCE: usize = 256;
/// Listeners that receive frames before the hub wakes them: a listener that is woken once for many frames sends them
/// together.
const WAKE_AFTER: usize = 1_024;
/// Bytes of frames that wait for listeners of this instance. Beyond it, a listener ends before its queue exceeds
/// [`CROWDED_BYTES`].
const HELD_BYTES: usize = 96 << 20;
const CROWDED_BYTES: usize = 64 << 10;

/// An event for a subscriber.
#[derive(Clone, Debug)]
pub enum Delivery {
    Stored(Arc<Frame>),
    Ephemeral(Arc<Signal>),
}

/// Why a subscription came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its buffer was full: it resumes by cursor.
    TooSlow,
    /// Its device or account lost its right, or a newer listener of the same device took its place.
    Closed,
}

/// A subscriber's filter over all that it may see. Empty means everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub streams: HashSet<String>,
    pub kinds: HashSet<String>,
}

impl Filter {
    pub fn wants(&self, frame: &Frame) -> bool {
        self.wants_stream(frame.stream.as_str()) && self.wants_kind(frame.kind.name())
    }

    fn wants_kind(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }

    fn wants_stream(&self, stream: &str) -> bool {
        self.streams.is_empty() || self.streams.contains(stream)
    }
}

/// A device that listens: counted, and ended with its right, from its first page of the past on. Dropping it ends it.
pub struct Listener {
    id: u64,
    hub: Arc<Hub>,
    pub(super) account_id: i64,
    ended: CancellationToken,
}

impl Listener {
    /// Cancelled when the device lost its right, or a newer listener of the same device took its place.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.hub.state).end(self.id);
        metrics::gauge!(crate::telemetry::metric_name::SUBSCRIPTIONS_OPEN).decrement(1);
    }
}

/// The live events of a listener, which end with its [`Listener`].
pub struct Subscription {
    mailbox: Arc<Mailbox>,
    /// Everything after this position comes through [`Self::next`].
    pub position: Cursor,
}

impl Subscription {
    /// The next delivery, or why there is none any more.
    pub async fn next(&mut self) -> Result<Delivery, Ended> {
        std::future::poll_fn(|cx| self.mailbox.poll_next(cx)).await
    }

    /// The next delivery if there is one already.
    pub fn next_now(&mut self) -> Option<Delivery> {
        self.mailbox.pop()
    }
}

/// The hub of this instance.
pub struct Hub {
    state: Mutex<State>,
    next_id: AtomicU64,
    /// The greatest position that a signal named.
    woken: AtomicI64,
    wake: Notify,
    /// A device began to listen.
    began: Notify,
    /// For those who look at commits by themselves.
    commits: watch::Sender<i64>,
    /// Signals to the other instances.
    leaving: Leaving,
    /// Bytes of the tailer's frames that are still referenced.
    held_bytes: Arc<AtomicUsize>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it cannot leave the maps half-changed in a way that matters more than stopping delivery.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Lets a device listen, unless it was revoked.
    pub async fn listen(&self, account_id: i64, device_row: i64) -> Result<Option<Listener>, Error> {
        let hub = Arc::clone(&self.inner.hub);
        let id = hub.next_id.fetch_add(1, Ordering::Relaxed);
        let ended = CancellationToken::new();
        if hub.nobody_listens() {
            // The tailer rests while nobody listens, and its position may be behind the present.
            hub.skip_to(store::newest_readable(self.inner.storage.pool()).await?);
        }
        lock(&hub.state).begin(id, account_id, device_row, ended.clone());
        metrics::gauge!(crate::telemetry::metric_name::SUBSCRIPTIONS_OPEN).increment(1);
        hub.began.notify_one();
        let listener = Listener { id, hub, account_id, ended };
        // After it is known to the hub: a revocation is seen here, or its entry passes the tail.
        let revoked = store::silenced(self.inner.storage.pool(), &[device_row]).await?;
        Ok(revoked.is_empty().then_some(listener))
    }

    /// Goes live: what the listener's account may see, from the position of the returned subscription on.
    pub async fn subscribe(
        &self,
        listener: &Listener,
        filter: Filter,
        buffer: SubscriberBuffer,
    ) -> Result<Subscription, Error> {
        // The tail keeps this account's spans up to date since it listens; what it missed, this query sees.
        let spans = store::spans_of_account(self.inner.storage.pool(), listener.account_id).await?;
        let mailbox = Arc::new(Mailbox::new(buffer));
        let mut state = lock(&listener.hub.state);
        state.merge(&spans);
        let position = state.joins_at();
        state.go_live(listener.id, Live { filter, mailbox: Arc::clone(&mailbox), after: position });
        Ok(Subscription { mailbox, position })
    }
}

impl Hub {
    pub(super) fn new(position: Cursor) -> Self {
        let held_bytes = Arc::new(AtomicUsize::new(0));
        Self {
            state: Mutex::new(State::at(position)),
            next_id: AtomicU64::new(1),
            woken: AtomicI64::new(position.to_db()),
            wake: Notify::new(),
            began: Notify::new(),
            commits: watch::Sender::new(position.to_db()),
            leaving: Leaving::default(),
            held_bytes,
        }
    }

    /// Counts a frame's bytes for as long as the frame is referenced.
    pub(super) fn weighed(&self, frame: Frame) -> Frame {
        let weight = FrameWeight::new(&self.held_bytes, frame.bytes.len());
        frame.with_weight(weight)
    }

    /// Tells the tailer, and the other instances, to read entries up to `pos`. Called after a commit, never before.
    pub(super) fn wake(&self, pos: i64) {
        self.wake_from_afar(pos);
        self.leaving.committed();
    }

    /// Another instance committed up to `pos`.
    pub(super) fn wake_from_afar(&self, pos: i64) {
        self.woken.fetch_max(pos, Ordering::SeqCst);
        self.commits.send_if_modified(|newest| std::mem::replace(newest, pos.max(*newest)) < pos);
        self.look();
    }

    /// Changes with every commit that this instance hears of; its value is a position up to which an instance has
    /// committed.
    pub fn commits(&self) -> watch::Receiver<i64> {
        self.commits.subscribe()
    }

    /// Tells the tail to look for whatever there is.
    pub(super) fn look(&self) {
        self.wake.notify_one();
    }

    pub(super) fn leaving(&self) -> &Leaving {
        &self.leaving
    }

    pub(super) fn woken(&self) -> Cursor {
        Cursor::from_db(self.woken.load(Ordering::SeqCst))
    }

    pub(super) async fn woken_up(&self) {
        self.wake.notified().await;
    }

    /// Waits until a device begins to listen.
    pub(super) async fn listener_began(&self) {
        self.began.notified().await;
    }

    /// Up to where the tail has read: whatever is committed below it was seen.
    pub fn position(&self) -> Cursor {
        lock(&self.state).position
    }

    /// Moves on without reading, while there is no listener. A listener that came meanwhile stays where it joined.
    pub(super) fn skip_to(&self, position: Cursor) {
        let mut state = lock(&self.state);
        if state.nobody_listens() {
            state.position = state.position.max(position);
        }
    }

    pub(super) fn nobody_listens(&self) -> bool {
        lock(&self.state).nobody_listens()
    }

    /// Announces that the tailer will hand out everything up to `end`: later listeners join there. Answers which of
    /// these streams earlier listeners may see.
    pub(super) fn claim(&self, end: Cursor, streams: impl Iterator<Item = i64>) -> HashSet<i64> {
        lock(&self.state).claim(end, streams)
    }

    /// Records that everything up to `end` was handed out, or that no listener may see it.
    pub(super) fn pass(&self, end: Cursor) {
        let mut state = lock(&self.state);
        state.position = state.position.max(end);
    }

    /// Merges the spans that entries changed, before the first of their frames is handed out.
    pub(super) fn merge(&self, spans: &[SpanRow]) {
        lock(&self.state).merge(spans);
    }

    /// Hands out frames in order.
    pub(super) fn hand_out(&self, frames: &[Arc<Frame>]) {
        let mut readers = Vec::new();
        for frame in frames {
            let is_crowded = self.held_bytes.load(Ordering::Relaxed) > HELD_BYTES;
            let most_bytes = if is_crowded { CROWDED_BYTES } else { usize::MAX };
            let mut after = None;
            loop {
                let due = lock(&self.state).due(frame, after, LISTENERS_AT_ONCE);
                readers.extend(due.mailboxes.iter().filter_map(|mailbox| mailbox.push_frame(frame, most_bytes)));
                after = due.up_to_account;
                if after.is_none() {
                    break;
                }
            }
            lock(&self.state).position = frame.cursor;
            if readers.len() >= WAKE_AFTER {
                readers.drain(..).for_each(Waker::wake);
            }
        }
        readers.into_iter().for_each(Waker::wake);
    }

    /// Sends an ephemeral event about a stream to the account's live listeners on every instance, except those of
    /// `except`. Lost when a buffer is full.
    pub fn signal(&self, account_id: i64, except: Option<i64>, stream: &StreamId, signal: Signal) {
        let carried = Carried { account_id, except, stream: stream.to_string(), signal: Arc::new(signal) };
        self.signal_here(&carried);
        self.leaving.signal(carried);
    }

    /// Sends an ephemeral event to the account's live listeners on this instance alone.
    pub(super) fn signal_here(&self, carried: &Carried) {
        let Carried { account_id, except, stream, signal } = carried;
        let wants = |device_row: i64, filter: &Filter| {
            Some(device_row) != *except && filter.wants_stream(stream) && filter.wants_kind(&signal.kind)
        };
        let mailboxes = lock(&self.state).live_of_account(*account_id, wants);
        let delivery = Delivery::Ephemeral(Arc::clone(signal));
        for mailbox in mailboxes {
            if let Some(reader) = mailbox.push_signal(&delivery) {
                reader.wake();
            }
        }
    }

    /// The devices with a listener on this instance.
    pub fn devices(&self) -> Vec<i64> {
        lock(&self.state).devices()
    }

    /// Ends the listeners of a device that lost its right.
    pub fn close_device(&self, device_row: i64) {
        lock(&self.state).end_device(device_row);
    }

    /// Ends this instance's listeners of an account that lost its right to listen.
    pub(super) fn close_account(&self, account_id: i64) {
        lock(&self.state).end_account(account_id);
    }
}

#[cfg(test)]
mod tests;
