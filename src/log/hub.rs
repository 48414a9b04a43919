//! Who is listening on this replica, and handing out.
//!
//! Invariants: handing out never waits for a reader (a full buffer ends that subscription, it resumes by cursor); every
//! subscriber receives each entry that its seats cover once, in cursor order, beginning right after `position`.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::relay::{Carried, Leaving};
use super::store::{self, SpanRow};
use super::{EntryKind, Error, Frame, Log, Signal, Window};
use crate::types::{Cursor, Seq, StreamId};

/// At most this many subscriptions of one device on this replica; the oldest is ended for a new one.
const SUBSCRIPTIONS_PER_DEVICE: usize = 5;

/// What a subscriber receives.
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
    /// Its device or account lost its right, or a newer socket of the same device took its place.
    Closed,
}

/// What a subscriber wants of all that it may see. Empty means everything.
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

/// A live subscription. Dropping it unsubscribes.
pub struct Subscription {
    id: u64,
    hub: Arc<Hub>,
    receiver: mpsc::Receiver<Delivery>,
    ended: Arc<Mutex<Option<Ended>>>,
    /// Everything after this position comes through [`Self::next`].
    pub position: Cursor,
}

impl Subscription {
    /// The next delivery, or why there is none any more.
    pub async fn next(&mut self) -> Result<Delivery, Ended> {
        match self.receiver.recv().await {
            Some(delivery) => Ok(delivery),
            None => Err(lock(&self.ended).unwrap_or(Ended::Closed)),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.remove(self.id);
    }
}

struct Subscriber {
    account_id: i64,
    device_row: i64,
    filter: Filter,
    sender: mpsc::Sender<Delivery>,
    ended: Arc<Mutex<Option<Ended>>>,
}

#[derive(Default)]
struct State {
    position: Cursor,
    subscribers: HashMap<u64, Subscriber>,
    /// Subscriptions of an account, those being set up included.
    accounts: HashMap<i64, Account>,
    /// Spans of the accounts above, by stream.
    spans: HashMap<i64, HashMap<i64, Vec<Window>>>,
}

#[derive(Default)]
struct Account {
    /// Set-ups and subscriptions that need this account's spans.
    users: usize,
    subscriptions: Vec<u64>,
}

/// The hub of this replica.
pub struct Hub {
    state: Mutex<State>,
    next_id: AtomicU64,
    /// The greatest position that somebody said to look for.
    woken: AtomicI64,
    wake: Notify,
    /// For the other replicas.
    leaving: Leaving,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it cannot leave the maps half-changed in a way that matters more than stopping delivery.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    /// Subscribes a device: what its account may see, from the position of the returned subscription on.
    pub async fn subscribe(
        &self,
        account_id: i64,
        device_row: i64,
        filter: Filter,
        buffer: usize,
    ) -> Result<Subscription, Error> {
        let hub = Arc::clone(&self.inner.hub);
        // From here on the tail keeps this account's spans up to date; what it misses, the query below sees.
        let tracked = Tracked::begin(&hub, account_id);
        let spans = store::spans_of_account(self.inner.storage.pool(), account_id).await?;
        let mut state = lock(&hub.state);
        state.merge(&spans);
        let id = hub.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(buffer.max(1));
        let ended = Arc::new(Mutex::new(None));
        let position = state.position;
        state.end_oldest_beyond_limit(device_row);
        let subscriber = Subscriber { account_id, device_row, filter, sender, ended: Arc::clone(&ended) };
        state.subscribers.insert(id, subscriber);
        state.accounts.entry(account_id).or_default().subscriptions.push(id);
        drop(state);
        tracked.keep();
        metrics::gauge!(crate::telemetry::metric_name::SUBSCRIPTIONS_OPEN).increment(1);
        Ok(Subscription { id, hub, receiver, ended, position })
    }
}

impl Log {
    /// Whether the device has not been revoked. The hub closes only those that joined it: whoever reads the log on its
    /// way there asks after each page, and once more after joining.
    pub async fn may_listen(&self, device_row: i64) -> Result<bool, Error> {
        Ok(store::revoked(self.inner.storage.pool(), &[device_row]).await?.is_empty())
    }
}

/// An account whose spans are wanted; gives them up again unless kept.
struct Tracked<'a> {
    hub: &'a Hub,
    account_id: i64,
    kept: bool,
}

impl<'a> Tracked<'a> {
    fn begin(hub: &'a Hub, account_id: i64) -> Self {
        lock(&hub.state).accounts.entry(account_id).or_default().users += 1;
        Self { hub, account_id, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Tracked<'_> {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.hub.state).release(self.account_id);
        }
    }
}

impl State {
    /// Spans only begin, and only end once: whatever says more is newer.
    fn merge(&mut self, rows: &[SpanRow]) {
        for row in rows {
            let windows = self.spans.entry(row.stream_id).or_default().entry(row.account_id).or_default();
            let from = Seq::from_db(row.from_seq);
            let until = row.until_seq.map(Seq::from_db);
            match windows.iter_mut().find(|window| window.from == from) {
                Some(window) => window.until = window.until.or(until),
                None => windows.push(Window { from, until }),
            }
        }
    }

    fn release(&mut self, account_id: i64) {
        let Some(account) = self.accounts.get_mut(&account_id) else { return };
        account.users -= 1;
        if account.users == 0 {
            self.accounts.remove(&account_id);
            self.spans.retain(|_, accounts| {
                accounts.remove(&account_id);
                !accounts.is_empty()
            });
        }
    }

    fn end_oldest_beyond_limit(&mut self, device_row: i64) {
        let mut own: Vec<u64> =
            self.subscribers.iter().filter(|(_, s)| s.device_row == device_row).map(|(id, _)| *id).collect();
        own.sort_unstable();
        let surplus = (own.len() + 1).saturating_sub(SUBSCRIPTIONS_PER_DEVICE);
        for id in own.into_iter().take(surplus) {
            self.end(id, Ended::Closed);
        }
    }

    /// Ends a subscription: dropping the sender closes its channel, after what is already in it.
    fn end(&mut self, id: u64, why: Ended) {
        if let Some(subscriber) = self.subscribers.remove(&id) {
            *lock(&subscriber.ended) = Some(why);
            if let Some(account) = self.accounts.get_mut(&subscriber.account_id) {
                account.subscriptions.retain(|other| *other != id);
            }
            self.release(subscriber.account_id);
        }
    }

    fn hand_out(&mut self, frame: &Arc<Frame>) {
        let mut slow = Vec::new();
        if let Some(accounts) = self.spans.get(&frame.stream_id) {
            for (account_id, windows) in accounts {
                if !windows.iter().any(|window| window.covers(frame.seq)) {
                    continue;
                }
                let Some(account) = self.accounts.get(account_id) else { continue };
                for id in &account.subscriptions {
                    let Some(subscriber) = self.subscribers.get(id) else { continue };
                    if subscriber.filter.wants(frame)
                        && subscriber.sender.try_send(Delivery::Stored(Arc::clone(frame))).is_err()
                    {
                        slow.push(*id);
                    }
                }
            }
        }
        for id in slow {
            self.end(id, Ended::TooSlow);
        }
        self.position = frame.cursor;
    }
}

impl Hub {
    pub(super) fn new(position: Cursor) -> Self {
        Self {
            state: Mutex::new(State { position, ..State::default() }),
            next_id: AtomicU64::new(1),
            woken: AtomicI64::new(position.to_db()),
            wake: Notify::new(),
            leaving: Leaving::default(),
        }
    }

    /// Tells the tail, and the other replicas, to look for entries up to `pos`. Called after a commit, never before.
    pub(super) fn wake(&self, pos: i64) {
        self.wake_from_afar(pos);
        self.leaving.committed();
    }

    /// Another replica committed up to `pos`.
    pub(super) fn wake_from_afar(&self, pos: i64) {
        self.woken.fetch_max(pos, Ordering::SeqCst);
        self.look();
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

    pub(super) fn position(&self) -> Cursor {
        lock(&self.state).position
    }

    /// Moves on without reading, while nobody listens. A subscriber that came meanwhile stays where it joined.
    pub(super) fn skip_to(&self, position: Cursor) {
        let mut state = lock(&self.state);
        if state.accounts.is_empty() {
            state.position = state.position.max(position);
        }
    }

    /// The accounts whose spans must be kept up to date.
    pub(super) fn tracked_accounts(&self) -> Vec<i64> {
        lock(&self.state).accounts.keys().copied().collect()
    }

    /// Takes in the spans that a batch's seat-changing entries made, read after them. Before its first frame is handed out.
    pub(super) fn merge(&self, spans: &[SpanRow]) {
        let mut state = lock(&self.state);
        let tracked: Vec<&SpanRow> = spans.iter().filter(|row| state.accounts.contains_key(&row.account_id)).collect();
        for row in tracked {
            state.merge(std::slice::from_ref(row));
        }
    }

    /// Hands out frames in order.
    pub(super) fn hand_out(&self, frames: &[Arc<Frame>]) {
        let mut state = lock(&self.state);
        for frame in frames {
            state.hand_out(frame);
        }
    }

    /// Sends an ephemeral event about a stream to the account's sockets on every replica, except those of `except`. Lost
    /// when a buffer is full.
    pub fn signal(&self, account_id: i64, except: Option<i64>, stream: &StreamId, signal: Signal) {
        let carried = Carried { account_id, except, stream: stream.to_string(), signal: Arc::new(signal) };
        self.signal_here(&carried);
        self.leaving.signal(carried);
    }

    /// The same on this replica alone.
    pub(super) fn signal_here(&self, carried: &Carried) {
        let state = lock(&self.state);
        let Some(account) = state.accounts.get(&carried.account_id) else { return };
        for id in &account.subscriptions {
            let Some(subscriber) = state.subscribers.get(id) else { continue };
            let filter = &subscriber.filter;
            let wanted = filter.wants_stream(&carried.stream) && filter.wants_kind(&carried.signal.kind);
            if Some(subscriber.device_row) != carried.except && wanted {
                // Full: an ephemeral event is worth nothing later.
                let _full = subscriber.sender.try_send(Delivery::Ephemeral(Arc::clone(&carried.signal)));
            }
        }
    }

    /// The devices that listen on this replica.
    pub(super) fn devices(&self) -> Vec<i64> {
        let state = lock(&self.state);
        let mut devices: Vec<i64> = state.subscribers.values().map(|subscriber| subscriber.device_row).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// Closes the sockets of a device that lost its right.
    pub fn close_device(&self, device_row: i64) {
        let mut state = lock(&self.state);
        let ids: Vec<u64> =
            state.subscribers.iter().filter(|(_, s)| s.device_row == device_row).map(|(id, _)| *id).collect();
        for id in ids {
            state.end(id, Ended::Closed);
        }
    }

    fn remove(&self, id: u64) {
        lock(&self.state).end(id, Ended::Closed);
        metrics::gauge!(crate::telemetry::metric_name::SUBSCRIPTIONS_OPEN).decrement(1);
    }
}

/// Whether a batch of entries asks for fresh spans.
pub(super) fn changes_spans(kinds: impl IntoIterator<Item = EntryKind>) -> bool {
    kinds.into_iter().any(EntryKind::changes_seats)
}
