//! The listeners, their spans, and delivery to them: under one lock, and without waiting.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Delivery, Ended, Filter, lock};
use crate::log::store::SpanRow;
use crate::log::{Frame, Window};
use crate::types::{Cursor, Seq};

/// At most this many of one device listen on this instance; the oldest is ended for a new one.
const LISTENERS_PER_DEVICE: usize = 5;
/// Listeners of one account, over all its devices.
const LISTENERS_PER_ACCOUNT: usize = 100;
/// Bytes of frames that wait for listeners of this instance. Beyond it, a listener ends before its queue exceeds
/// [`CROWDED_BYTES`].
const HELD_BYTES: usize = 96 << 20;
const CROWDED_BYTES: usize = 64 << 10;

/// A device that listens, still in the past or live.
struct Listening {
    account_id: i64,
    device_row: i64,
    ended: CancellationToken,
    live: Option<Live>,
}

/// The channel of a listener, and its limits.
pub(super) struct Live {
    pub filter: Filter,
    pub sender: mpsc::Sender<Delivery>,
    pub ended: Arc<Mutex<Option<Ended>>>,
    /// The listener reads entries up to this position from the log.
    pub after: Cursor,
    /// Bytes that wait in the channel, and their limit; one frame of any size may wait alone.
    pub queued: Arc<AtomicUsize>,
    pub most_bytes: usize,
}

impl Live {
    /// Puts a frame into the channel; answers whether there was room.
    fn offer(&self, frame: &Arc<Frame>, is_crowded: bool) -> bool {
        let most = if is_crowded { self.most_bytes.min(CROWDED_BYTES) } else { self.most_bytes };
        let bytes = frame.bytes.len();
        // Only the holder of the hub's lock adds bytes, so the sum cannot grow between these lines.
        let queued = self.queued.load(Ordering::Relaxed);
        if queued > 0 && queued.saturating_add(bytes) > most {
            return false;
        }
        self.queued.fetch_add(bytes, Ordering::Relaxed);
        let sent = self.sender.try_send(Delivery::Stored(Arc::clone(frame))).is_ok();
        if !sent {
            self.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }
}

pub(super) struct State {
    /// Everything up to this position was handed out.
    pub position: Cursor,
    /// The tailer is handing out everything up to this position.
    claimed: Cursor,
    /// Oldest first.
    listeners: BTreeMap<u64, Listening>,
    /// Listeners by device and by account, oldest first.
    devices: HashMap<i64, Vec<u64>>,
    accounts: HashMap<i64, ListeningAccount>,
    /// Spans of the accounts above, by stream.
    spans: HashMap<i64, HashMap<i64, Vec<Window>>>,
    held_bytes: Arc<AtomicUsize>,
}

/// An account with a listener.
#[derive(Default)]
struct ListeningAccount {
    listeners: Vec<u64>,
    /// The streams in which `State::spans` has spans of the account.
    streams: HashSet<i64>,
}

impl State {
    pub fn at(position: Cursor, held_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            position,
            claimed: position,
            listeners: BTreeMap::new(),
            devices: HashMap::new(),
            accounts: HashMap::new(),
            spans: HashMap::new(),
            held_bytes,
        }
    }

    pub fn nobody_listens(&self) -> bool {
        self.accounts.is_empty()
    }

    /// The position at which a new live listener begins.
    pub fn joins_at(&self) -> Cursor {
        self.position.max(self.claimed)
    }

    pub fn claim(&mut self, end: Cursor, streams: impl Iterator<Item = i64>) -> HashSet<i64> {
        self.claimed = end;
        streams.filter(|stream_id| self.spans.contains_key(stream_id)).collect()
    }

    /// From here on this account's spans are kept up to date.
    pub fn begin(&mut self, id: u64, account_id: i64, device_row: i64, ended: CancellationToken) {
        self.make_room(self.devices.get(&device_row).cloned(), LISTENERS_PER_DEVICE);
        let of_account = self.accounts.get(&account_id).map(|account| account.listeners.clone());
        self.make_room(of_account, LISTENERS_PER_ACCOUNT);
        self.listeners.insert(id, Listening { account_id, device_row, ended, live: None });
        self.devices.entry(device_row).or_default().push(id);
        self.accounts.entry(account_id).or_default().listeners.push(id);
    }

    /// Ends the oldest of these, so that one more is not too many.
    fn make_room(&mut self, own: Option<Vec<u64>>, most: usize) {
        let own = own.unwrap_or_default();
        let surplus = (own.len() + 1).saturating_sub(most);
        for oldest in own.into_iter().take(surplus) {
            self.end(oldest);
        }
    }

    /// Goes live, unless the listener was ended meanwhile and its channel closed.
    pub fn go_live(&mut self, id: u64, live: Live) {
        match self.listeners.get_mut(&id) {
            Some(listener) => listener.live = Some(live),
            None => *lock(&live.ended) = Some(Ended::Closed),
        }
    }

    /// Ends a listener: at once by its signal, and its channel after what is already in it.
    pub fn end(&mut self, id: u64) {
        let Some(listener) = self.listeners.remove(&id) else { return };
        if let Some(live) = &listener.live {
            lock(&live.ended).get_or_insert(Ended::Closed);
        }
        listener.ended.cancel();
        if let Some(device) = self.devices.get_mut(&listener.device_row) {
            device.retain(|other| *other != id);
            if device.is_empty() {
                self.devices.remove(&listener.device_row);
            }
        }
        let Some(account) = self.accounts.get_mut(&listener.account_id) else { return };
        account.listeners.retain(|other| *other != id);
        if account.listeners.is_empty() {
            let streams = self.accounts.remove(&listener.account_id).unwrap_or_default().streams;
            for stream_id in streams {
                if let Some(accounts) = self.spans.get_mut(&stream_id) {
                    accounts.remove(&listener.account_id);
                    if accounts.is_empty() {
                        self.spans.remove(&stream_id);
                    }
                }
            }
        }
    }

    pub fn end_device(&mut self, device_row: i64) {
        for id in self.devices.get(&device_row).cloned().unwrap_or_default() {
            self.end(id);
        }
    }

    pub fn end_account(&mut self, account_id: i64) {
        let of_account = self.accounts.get(&account_id).map(|account| account.listeners.clone());
        for id in of_account.unwrap_or_default() {
            self.end(id);
        }
    }

    /// The devices with a listener.
    pub fn devices(&self) -> Vec<i64> {
        self.devices.keys().copied().collect()
    }

    /// Takes in spans of accounts that listen. Spans only begin, and only end once: whatever says more is newer.
    pub fn merge(&mut self, rows: &[SpanRow]) {
        for row in rows {
            let Some(account) = self.accounts.get_mut(&row.account_id) else { continue };
            account.streams.insert(row.stream_id);
            let windows = self.spans.entry(row.stream_id).or_default().entry(row.account_id).or_default();
            let from = Seq::from_db(row.from_seq);
            let until = row.until_seq.map(Seq::from_db);
            match windows.iter_mut().find(|window| window.from == from) {
                Some(window) => window.until = window.until.or(until),
                None => windows.push(Window { from, until }),
            }
        }
    }

    pub fn hand_out(&mut self, frame: &Arc<Frame>) {
        let mut slow = Vec::new();
        let is_crowded = self.held_bytes.load(Ordering::Relaxed) > HELD_BYTES;
        if let Some(accounts) = self.spans.get(&frame.stream_id) {
            for (account_id, windows) in accounts {
                if !windows.iter().any(|window| window.covers(frame.seq)) {
                    continue;
                }
                for (id, live) in live(&self.listeners, self.accounts.get(account_id)) {
                    let is_due = live.after < frame.cursor && live.filter.wants(frame);
                    if is_due && !live.offer(frame, is_crowded) {
                        slow.push(id);
                    }
                }
            }
        }
        for id in slow {
            if let Some(live) = self.listeners.get_mut(&id).and_then(|listener| listener.live.take()) {
                *lock(&live.ended) = Some(Ended::TooSlow);
            }
        }
        self.position = frame.cursor;
    }

    /// Sends to the account's live listeners that `wants` accepts, by device and filter. Lost when a buffer is full.
    pub fn signal(&self, account_id: i64, wants: impl Fn(i64, &Filter) -> bool, delivery: &Delivery) {
        for (id, live) in live(&self.listeners, self.accounts.get(&account_id)) {
            if self.listeners.get(&id).is_some_and(|listener| wants(listener.device_row, &live.filter)) {
                // Full: an ephemeral event is worth nothing later.
                let _full = live.sender.try_send(delivery.clone());
            }
        }
    }
}

fn live<'a>(
    listeners: &'a BTreeMap<u64, Listening>,
    account: Option<&'a ListeningAccount>,
) -> impl Iterator<Item = (u64, &'a Live)> {
    let ids = account.map(|account| account.listeners.as_slice()).unwrap_or_default();
    ids.iter().filter_map(|id| Some((*id, listeners.get(id)?.live.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_oldest_listener_of_a_device_or_of_an_account_makes_room_and_no_other() {
        let mut state = State::at(Cursor::default(), Arc::default());
        let mut listeners = Vec::new();
        let mut begin = |state: &mut State, account_id: i64, device_row: i64| {
            let ended = CancellationToken::new();
            state.begin(listeners.len() as u64, account_id, device_row, ended.clone());
            listeners.push(ended.clone());
            ended
        };
        let other = begin(&mut state, 2, 999);
        let devices = i64::try_from(LISTENERS_PER_ACCOUNT / LISTENERS_PER_DEVICE).unwrap();
        let mut own = Vec::new();
        for device in 0..devices {
            for _ in 0..LISTENERS_PER_DEVICE {
                own.push(begin(&mut state, 1, device));
            }
        }
        assert!(own.iter().all(|ended| !ended.is_cancelled()));
        // One more of the last device ends that device's oldest; one of a new device the account's.
        begin(&mut state, 1, devices - 1);
        let last_s_oldest = own.len() - LISTENERS_PER_DEVICE;
        assert!(own[last_s_oldest].is_cancelled());
        begin(&mut state, 1, devices);
        assert!(own[0].is_cancelled());
        assert_eq!(own.iter().filter(|ended| ended.is_cancelled()).count(), 2);
        assert!(!other.is_cancelled());
    }

    /// The least time in which a hundred listeners begin and end beside so many others.
    fn takes(others: i64) -> Duration {
        let mut state = State::at(Cursor::default(), Arc::default());
        let begin = |state: &mut State, row: i64| {
            state.begin(row.unsigned_abs(), row, row, CancellationToken::new());
            state.merge(&[SpanRow { stream_id: row, account_id: row, from_seq: 1, until_seq: None }]);
        };
        (0..others).for_each(|row| begin(&mut state, row));
        let attempt = |_| {
            let began = Instant::now();
            for row in others..others + 50 {
                begin(&mut state, row);
                state.end_device(row);
                begin(&mut state, row);
                state.end_account(row);
            }
            began.elapsed()
        };
        (0..20).map(attempt).min().unwrap()
    }

    #[test]
    fn a_listener_costs_no_more_beside_many_others() {
        let (few, many) = (takes(100), takes(30_000));
        assert!(many < few * 20, "{many:?} beside 30,000 others, {few:?} beside 100");
    }
}
