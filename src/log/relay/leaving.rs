//! The queue of this instance's signals, until the relay sends them.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Carried;

/// Ephemeral signals that may wait; more are lost, as they are when a subscriber's buffer is full.
const SIGNALS: usize = 1_024;

#[derive(Default)]
pub(in crate::log) struct Leaving {
    waiting: Mutex<Waiting>,
    some: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Any number of commits: one signal stands for all of them.
    committed: bool,
    signals: Vec<Carried>,
}

impl Leaving {
    pub(in crate::log) fn committed(&self) {
        self.change(|waiting| waiting.committed = true);
        self.some.notify_one();
    }

    pub(in crate::log) fn signal(&self, carried: Carried) {
        if carried.fits() {
            self.change(|waiting| {
                if waiting.signals.len() < SIGNALS {
                    waiting.signals.push(carried);
                }
            });
            self.some.notify_one();
        }
    }

    /// Waits until there is something: whether anything was committed, and the signals.
    pub(super) async fn next(&self) -> (bool, Vec<Carried>) {
        loop {
            let Waiting { committed, signals } = self.change(std::mem::take);
            if committed || !signals.is_empty() {
                return (committed, signals);
            }
            self.some.notified().await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Waiting) -> T) -> T {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
