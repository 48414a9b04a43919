//! Whether other instances use the same database: an instance that is alone sends no NOTIFY.
//!
//! Invariant: an instance counts as alone only after it has listened without a break for [`ALONE_AFTER`] and heard no
//! other instance for that time. Every instance sends a NOTIFY when it begins to listen, and again every
//! [`HELLO`](super::HELLO).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than the time in which another instance sends two signs of life.
pub(super) const ALONE_AFTER: Duration = Duration::from_secs(25);

#[derive(Default)]
pub(in crate::log) struct Neighbours {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when this instance has heard its own NOTIFY without a break.
    listening: Option<Instant>,
    /// When another instance was last heard.
    heard: Option<Instant>,
}

impl Neighbours {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_listening(&self, now: Instant) {
        self.state().listening = Some(now);
    }

    pub(super) fn end_listening(&self) {
        self.state().listening = None;
    }

    pub(super) fn heard(&self, now: Instant) {
        self.state().heard = Some(now);
    }

    pub(super) fn is_alone(&self, now: Instant) -> bool {
        let state = self.state();
        let is_long_ago = |moment: Instant| now.saturating_duration_since(moment) > ALONE_AFTER;
        state.listening.is_some_and(is_long_ago) && state.heard.is_none_or(is_long_ago)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_alone_after_a_while_of_silence() {
        let (neighbours, began) = (Neighbours::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!neighbours.is_alone(at(60)), "an instance that does not listen knows nothing");
        neighbours.begin_listening(at(100));
        assert!(!neighbours.is_alone(at(120)));
        assert!(neighbours.is_alone(at(126)));
        neighbours.heard(at(200));
        assert!(!neighbours.is_alone(at(220)));
        assert!(neighbours.is_alone(at(226)));
        neighbours.end_listening();
        neighbours.begin_listening(at(300));
        assert!(!neighbours.is_alone(at(320)), "signals of other instances during the break are lost");
    }
}
