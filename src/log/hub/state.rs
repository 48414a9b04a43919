//! The listeners and their spans, by the keys that the hub looks up: nothing here waits, and no look-up reads more than
//! what it answers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use super::Filter;
use super::mailbox::Mailbox;
use crate::log::store::SpanRow;
use crate::log::{Frame, Window};
use crate::types::{Cursor, Seq};

/// At most this many of one device listen on this instance; the oldest is ended for a new one.
const LISTENERS_PER_DEVICE: usize = 5;
/// Listeners of one account, over all its devices.
const LISTENERS_PER_ACCOUNT: usize = 100;

/// A device that listens, still in the past or live.
struct Listening {
    id: u64,
    account_id: i64,
    device_row: i64,
    ended: CancellationToken,
    live: OnceLock<Live>,
}

/// How a listener receives live events.
pub(super) struct Live {
    pub filter: Filter,
    pub mailbox: Arc<Mailbox>,
    /// The listener reads entries up to this position from the log.
    pub after: Cursor,
}

/// A span of a stream that a seat of an account covers.
#[derive(Clone, Copy)]
struct SeatSpan {
    account_id: i64,
    window: Window,
}

pub(super) struct State {
    /// Everything up to this position was handed out.
    pub position: Cursor,
    /// The tailer is handing out everything up to this position.
    claimed: Cursor,
    listeners: HashMap<u64, Arc<Listening>>,
    /// Listeners by device, oldest first.
    devices: HashMap<i64, Vec<u64>>,
    accounts: HashMap<i64, ListeningAccount>,
    /// Spans of the accounts above, by stream, in ascending order of accounts.
    spans: HashMap<i64, Vec<SeatSpan>>,
}

/// An account with a listener.
#[derive(Default)]
struct ListeningAccount {
    /// Oldest first.
    listeners: Vec<Arc<Listening>>,
    /// The streams in which `State::spans` has spans of the account, in ascending order.
    streams: Vec<i64>,
}

/// The mailboxes for a frame, of some of the accounts that may see it.
pub(super) struct Due {
    pub mailboxes: Vec<Arc<Mailbox>>,
    /// The last account that was looked at, if there are more.
    pub up_to_account: Option<i64>,
}

impl State {
    pub fn at(position: Cursor) -> Self {
        Self {
            position,
            claimed: position,
            listeners: HashMap::new(),
            devices: HashMap::new(),
            accounts: HashMap::new(),
            spans: HashMap::new(),
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
        self.make_room(self.of_device(device_row), LISTENERS_PER_DEVICE);
        self.make_room(self.of_account(account_id), LISTENERS_PER_ACCOUNT);
        let listening = Arc::new(Listening { id, account_id, device_row, ended, live: OnceLock::new() });
        self.listeners.insert(id, Arc::clone(&listening));
        self.devices.entry(device_row).or_default().push(id);
        self.accounts.entry(account_id).or_default().listeners.push(listening);
    }

    fn of_device(&self, device_row: i64) -> Vec<u64> {
        self.devices.get(&device_row).cloned().unwrap_or_default()
    }

    fn of_account(&self, account_id: i64) -> Vec<u64> {
        let listeners = self.accounts.get(&account_id).map(|account| account.listeners.as_slice());
        listeners.unwrap_or_default().iter().map(|listening| listening.id).collect()
    }

    /// Ends the oldest of these, so that one more is not too many.
    fn make_room(&mut self, own: Vec<u64>, most: usize) {
        let surplus = (own.len() + 1).saturating_sub(most);
        for oldest in own.into_iter().take(surplus) {
            self.end(oldest);
        }
    }

    /// Goes live, unless the listener was ended meanwhile.
    pub fn go_live(&mut self, id: u64, live: Live) {
        let refused = match self.listeners.get(&id) {
            Some(listening) => listening.live.set(live),
            None => Err(live),
        };
        if let Err(live) = refused {
            live.mailbox.close();
        }
    }

    /// Ends a listener: at once by its signal, and its mailbox after the events that wait in it.
    pub fn end(&mut self, id: u64) {
        let Some(listening) = self.listeners.remove(&id) else { return };
        if let Some(live) = listening.live.get() {
            live.mailbox.close();
        }
        listening.ended.cancel();
        if let Some(device) = self.devices.get_mut(&listening.device_row) {
            device.retain(|other| *other != id);
            if device.is_empty() {
                self.devices.remove(&listening.device_row);
            }
        }
        let Some(account) = self.accounts.get_mut(&listening.account_id) else { return };
        account.listeners.retain(|other| other.id != id);
        if account.listeners.is_empty() {
            let streams = self.accounts.remove(&listening.account_id).unwrap_or_default().streams;
            for stream_id in streams {
                self.forget(stream_id, listening.account_id);
            }
        }
    }

    /// Drops the spans of an account in a stream.
    fn forget(&mut self, stream_id: i64, account_id: i64) {
        let Some(spans) = self.spans.get_mut(&stream_id) else { return };
        let first = spans.partition_point(|span| span.account_id < account_id);
        let own = spans[first..].partition_point(|span| span.account_id == account_id);
        spans.drain(first..first + own);
        if spans.is_empty() {
            self.spans.remove(&stream_id);
        } else if spans.capacity() > 2 * spans.len() + 8 {
            spans.shrink_to_fit();
        }
    }

    pub fn end_device(&mut self, device_row: i64) {
        for id in self.of_device(device_row) {
            self.end(id);
        }
    }

    pub fn end_account(&mut self, account_id: i64) {
        for id in self.of_account(account_id) {
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
            let account_id = row.account_id;
            let Some(account) = self.accounts.get_mut(&account_id) else { continue };
            if let Err(at) = account.streams.binary_search(&row.stream_id) {
                insert_tightly(&mut account.streams, at, row.stream_id);
            }
            let spans = self.spans.entry(row.stream_id).or_default();
            let (from, until) = (Seq::from_db(row.from_seq), row.until_seq.map(Seq::from_db));
            match spans.binary_search_by_key(&(account_id, from), |span| (span.account_id, span.window.from)) {
                Ok(at) => spans[at].window.until = spans[at].window.until.or(until),
                Err(at) => insert_tightly(spans, at, SeatSpan { account_id, window: Window { from, until } }),
            }
        }
    }

    /// The live listeners that want a frame and have not read it from the log: of the accounts above `after`, and up to
    /// the account that completes `most`.
    pub fn due(&self, frame: &Frame, after: Option<i64>, most: usize) -> Due {
        let spans = self.spans.get(&frame.stream_id).map(Vec::as_slice).unwrap_or_default();
        let first = after.map_or(0, |after| spans.partition_point(|span| span.account_id <= after));
        let mut due = Due { mailboxes: Vec::new(), up_to_account: None };
        for (looked_at, of_account) in spans[first..].chunk_by(|a, b| a.account_id == b.account_id).enumerate() {
            if looked_at >= most || due.mailboxes.len() >= most {
                return due;
            }
            let Some(SeatSpan { account_id, .. }) = of_account.first() else { continue };
            due.up_to_account = Some(*account_id);
            if of_account.iter().any(|span| span.window.covers(frame.seq)) {
                let wanting =
                    self.live(*account_id).filter(|(_, live)| live.after < frame.cursor && live.filter.wants(frame));
                due.mailboxes.extend(wanting.map(|(_, live)| Arc::clone(&live.mailbox)));
            }
        }
        Due { up_to_account: None, ..due }
    }

    /// The account's live listeners that `wants` accepts, by device and filter.
    pub fn live_of_account(&self, account_id: i64, wants: impl Fn(i64, &Filter) -> bool) -> Vec<Arc<Mailbox>> {
        let wanting = self.live(account_id).filter(|(listening, live)| wants(listening.device_row, &live.filter));
        wanting.map(|(_, live)| Arc::clone(&live.mailbox)).collect()
    }

    fn live(&self, account_id: i64) -> impl Iterator<Item = (&Listening, &Live)> {
        let listeners = self.accounts.get(&account_id).map(|account| account.listeners.as_slice());
        let listeners = listeners.unwrap_or_default().iter();
        listeners.filter_map(|listening| Some((&**listening, listening.live.get()?)))
    }
}

/// Inserts without the room that [`Vec`] reserves: most of these lists hold one element or a few.
fn insert_tightly<T>(list: &mut Vec<T>, at: usize, element: T) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(1));
    }
    list.insert(at, element);
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// The span of an open seat from the first entry on.
    pub fn span(stream_id: i64, account_id: i64) -> SpanRow {
        SpanRow { stream_id, account_id, from_seq: 1, until_seq: None }
    }

    #[test]
    fn the_oldest_listener_of_a_device_or_of_an_account_makes_room_and_no_other() {
        let mut state = State::at(Cursor::default());
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
        let mut state = State::at(Cursor::default());
        let begin = |state: &mut State, row: i64| {
            state.begin(row.unsigned_abs(), row, row, CancellationToken::new());
            state.merge(&[span(row, row)]);
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

    /// The time in which listeners of so many accounts end, each in ten streams of its own and in one of a thousand.
    fn ends_in(accounts: i64) -> Duration {
        let mut state = State::at(Cursor::default());
        for account_id in 0..accounts {
            state.begin(account_id.unsigned_abs(), account_id, account_id, CancellationToken::new());
            let own = (1..=10).map(|number| span(account_id * 10 + number, account_id));
            state.merge(&own.chain([span(-1 - account_id / 1_000, account_id)]).collect::<Vec<_>>());
        }
        let began = Instant::now();
        (0..accounts).for_each(|account_id| state.end(account_id.unsigned_abs()));
        let lasted = began.elapsed();
        assert!(state.nobody_listens() && state.spans.is_empty() && state.devices.is_empty());
        lasted
    }

    #[test]
    fn the_end_of_all_listeners_grows_with_their_number_alone() {
        let least = |accounts| (0..3).map(|_| ends_in(accounts)).min().unwrap();
        let (few, many) = (least(1_000), least(10_000));
        assert!(many < few * 60, "{few:?} for 1,000 accounts, {many:?} for 10,000");
    }

    #[test]
    fn spans_of_a_stream_are_merged_and_forgotten_by_account() {
        let mut state = State::at(Cursor::default());
        for account_id in [5_i64, 3, 9] {
            state.begin(account_id.unsigned_abs(), account_id, account_id, CancellationToken::new());
        }
        let ended = |account_id, from_seq, until_seq| SpanRow { stream_id: 1, account_id, from_seq, until_seq };
        state.merge(&[ended(5, 1, None), ended(9, 1, None), ended(3, 7, None), ended(4, 1, None)]);
        state.merge(&[ended(5, 8, None), ended(5, 1, Some(4)), ended(5, 1, None)]);
        let spans = |state: &State| -> Vec<(i64, u64, Option<u64>)> {
            let span = |span: &SeatSpan| (span.account_id, span.window.from.0, span.window.until.map(|seq| seq.0));
            state.spans[&1].iter().map(span).collect()
        };
        assert_eq!(spans(&state), [(3, 7, None), (5, 1, Some(4)), (5, 8, None), (9, 1, None)]);
        state.end_account(5);
        assert_eq!(spans(&state), [(3, 7, None), (9, 1, None)]);
    }
}
