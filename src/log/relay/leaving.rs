//! The queue of this instance's signals, until the relay sends them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Carried;
use crate::log::Signal;

/// Ephemeral signals that may wait; more are lost, as they are when a subscriber's buffer is full.
const SIGNALS: usize = 1_024;
/// Ephemeral signals that leave together: a commit that is made meanwhile waits for no more than these.
const SIGNALS_AT_ONCE: usize = 64;

#[derive(Default)]
pub(in crate::log) struct Leaving {
    waiting: Mutex<Waiting>,
    some: Notify,
}

/// A newer signal replaces an older one with the same key.
#[derive(Clone, PartialEq, Eq, Hash)]
struct SignalKey {
    account_id: i64,
    except: Option<i64>,
    stream: String,
    kind: String,
}

#[derive(Default)]
struct Waiting {
    /// Any number of commits: one signal stands for all of them.
    committed: bool,
    /// The keys of `signals`, oldest first.
    order: VecDeque<SignalKey>,
    signals: HashMap<SignalKey, Arc<Signal>>,
}

/// What the relay sends at one time.
pub(super) struct Departure {
    /// Whether anything was committed.
    pub committed: bool,
    pub signals: Vec<Carried>,
}

impl Leaving {
    pub(in crate::log) fn committed(&self) {
        self.change(|waiting| waiting.committed = true);
        self.some.notify_one();
    }

    pub(in crate::log) fn signal(&self, carried: Carried) {
        if carried.fits() {
            self.change(|waiting| waiting.push(carried));
            self.some.notify_one();
        }
    }

    /// Waits until there is something to send. Signals beyond [`SIGNALS_AT_ONCE`] stay for the next departure.
    pub(super) async fn next(&self) -> Departure {
        loop {
            let departure = self.change(Waiting::depart);
            if departure.committed || !departure.signals.is_empty() {
                return departure;
            }
            self.some.notified().await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Waiting {
    fn push(&mut self, carried: Carried) {
        let Carried { account_id, except, stream, signal } = carried;
        let key = SignalKey { account_id, except, stream, kind: signal.kind.to_string() };
        if let Some(older) = self.signals.get_mut(&key) {
            *older = signal;
        } else if self.order.len() < SIGNALS {
            self.order.push_back(key.clone());
            self.signals.insert(key, signal);
        }
    }

    fn depart(&mut self) -> Departure {
        let leaving = self.order.drain(..self.order.len().min(SIGNALS_AT_ONCE));
        let signals = leaving.filter_map(|key| {
            let signal = self.signals.remove(&key)?;
            Some(Carried { account_id: key.account_id, except: key.except, stream: key.stream, signal })
        });
        let signals = signals.collect();
        Departure { committed: std::mem::take(&mut self.committed), signals }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn carried(account_id: i64, stream: &str, bytes: &'static [u8]) -> Carried {
        let signal = Signal { kind: "#cursor".into(), bytes: bytes.into(), text: bytes.into() };
        Carried { account_id, except: None, stream: stream.to_owned(), signal: Arc::new(signal) }
    }

    #[tokio::test]
    async fn a_newer_signal_replaces_an_older_one_of_its_key() {
        let leaving = Leaving::default();
        for (account_id, stream, bytes) in [(1, "a", b"1"), (2, "a", b"2"), (1, "b", b"3"), (1, "a", b"4")] {
            leaving.signal(carried(account_id, stream, bytes));
        }
        let departure = leaving.next().await;
        let signals = departure.signals.iter();
        let signals: Vec<_> =
            signals.map(|signal| (signal.account_id, signal.stream.as_str(), &signal.signal.bytes[..])).collect();
        assert_eq!(signals, [(1, "a", &b"4"[..]), (2, "a", b"2"), (1, "b", b"3")]);
        assert!(!departure.committed);
        assert!(leaving.next().now_or_never().is_none(), "nothing is left");
    }

    #[tokio::test]
    async fn a_commit_waits_for_one_departure_of_signals() {
        let leaving = Leaving::default();
        for account_id in 0..2_000 {
            leaving.signal(carried(account_id, "a", b"1"));
        }
        let first = leaving.next().await;
        assert_eq!((first.committed, first.signals.len()), (false, SIGNALS_AT_ONCE));
        leaving.committed();
        let second = leaving.next().await;
        assert_eq!((second.committed, second.signals.len()), (true, SIGNALS_AT_ONCE));
        let mut rest = 0;
        while let Some(departure) = leaving.next().now_or_never() {
            assert!(!departure.committed);
            rest += departure.signals.len();
        }
        assert_eq!(rest, SIGNALS - 2 * SIGNALS_AT_ONCE, "signals beyond the limit are lost");
    }
}
