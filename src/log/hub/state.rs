//! Who listens, what each may see, and handing out: under one lock, and never waiting.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Delivery, Ended, Filter, lock};
use crate::log::store::SpanRow;
use crate::log::{Frame, Window};
use crate::types::{Cursor, Seq};

/// At most this many of one device listen on this replica; the oldest is ended for a new one.
const LISTENERS_PER_DEVICE: usize = 5;
/// The same of one account, whose devices are many.
const LISTENERS_PER_ACCOUNT: usize = 100;

/// A device that listens, still in the past or live.
struct Listening {
    account_id: i64,
    device_row: i64,
    ended: CancellationToken,
    live: Option<Live>,
}

/// What a listener receives, and by which way.
pub(super) struct Live {
    pub filter: Filter,
    pub sender: mpsc::Sender<Delivery>,
    pub ended: Arc<Mutex<Option<Ended>>>,
}

#[derive(Default)]
pub(super) struct State {
    pub position: Cursor,
    /// Oldest first.
    listeners: BTreeMap<u64, Listening>,
    /// Listeners by account.
    accounts: HashMap<i64, Vec<u64>>,
    /// Spans of the accounts above, by stream.
    spans: HashMap<i64, HashMap<i64, Vec<Window>>>,
}

impl State {
    pub fn at(position: Cursor) -> Self {
        Self { position, ..Self::default() }
    }

    pub fn nobody_listens(&self) -> bool {
        self.accounts.is_empty()
    }

    pub fn accounts(&self) -> Vec<i64> {
        self.accounts.keys().copied().collect()
    }

    pub fn devices(&self) -> Vec<i64> {
        let mut devices: Vec<i64> = self.listeners.values().map(|listener| listener.device_row).collect();
        devices.sort_unstable();
        devices.dedup();
        devices
    }

    /// From here on this account's spans are kept up to date.
    pub fn begin(&mut self, id: u64, account_id: i64, device_row: i64, ended: CancellationToken) {
        self.make_room(self.of_device(device_row), LISTENERS_PER_DEVICE);
        self.make_room(self.accounts.get(&account_id).cloned().unwrap_or_default(), LISTENERS_PER_ACCOUNT);
        self.listeners.insert(id, Listening { account_id, device_row, ended, live: None });
        self.accounts.entry(account_id).or_default().push(id);
    }

    /// Ends the oldest of these, so that one more is not too many.
    fn make_room(&mut self, own: Vec<u64>, most: usize) {
        let surplus = (own.len() + 1).saturating_sub(most);
        for oldest in own.into_iter().take(surplus) {
            self.end(oldest);
        }
    }

    /// Goes live; whoever was ended meanwhile does not, and its channel is closed.
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
        let Some(account) = self.accounts.get_mut(&listener.account_id) else { return };
        account.retain(|other| *other != id);
        if account.is_empty() {
            self.accounts.remove(&listener.account_id);
            self.spans.retain(|_, accounts| {
                accounts.remove(&listener.account_id);
                !accounts.is_empty()
            });
        }
    }

    pub fn end_device(&mut self, device_row: i64) {
        for id in self.of_device(device_row) {
            self.end(id);
        }
    }

    fn of_device(&self, device_row: i64) -> Vec<u64> {
        self.listeners.iter().filter(|(_, l)| l.device_row == device_row).map(|(id, _)| *id).collect()
    }

    /// Takes in spans of accounts that listen. Spans only begin, and only end once: whatever says more is newer.
    pub fn merge(&mut self, rows: &[SpanRow]) {
        for row in rows.iter().filter(|row| self.accounts.contains_key(&row.account_id)) {
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
        if let Some(accounts) = self.spans.get(&frame.stream_id) {
            for (account_id, windows) in accounts {
                if !windows.iter().any(|window| window.covers(frame.seq)) {
                    continue;
                }
                for (id, live) in live(&self.listeners, self.accounts.get(account_id)) {
                    if live.filter.wants(frame) && live.sender.try_send(Delivery::Stored(Arc::clone(frame))).is_err() {
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
    ids: Option<&'a Vec<u64>>,
) -> impl Iterator<Item = (u64, &'a Live)> {
    ids.into_iter().flatten().filter_map(|id| Some((*id, listeners.get(id)?.live.as_ref()?)))
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::{LISTENERS_PER_ACCOUNT, LISTENERS_PER_DEVICE, State};
    use crate::types::Cursor;

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
}
