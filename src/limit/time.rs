//! Time that never goes back, from the clock that tests may set.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::types::Clock;

/// Since it was made.
pub(super) enum Time {
    /// The machine's monotonic clock, which cannot be set.
    Steady(Instant),
    /// A manual clock: what it showed last, and how far it went forward in all.
    Set(Clock, Mutex<(i64, Duration)>),
}

impl Time {
    pub fn new(clock: &Clock) -> Self {
        match clock {
            Clock::System => Self::Steady(Instant::now()),
            Clock::Manual(_) => Self::Set(clock.clone(), Mutex::new((clock.now().0, Duration::ZERO))),
        }
    }
}

impl governor::clock::Clock for Time {
    type Instant = Duration;

    fn now(&self) -> Duration {
        match self {
            Self::Steady(started) => started.elapsed(),
            Self::Set(clock, shown) => {
                let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
                let (before_ms, passed) = *shown;
                let now_ms = clock.now().0;
                let passed = passed + Duration::from_millis(u64::try_from(now_ms - before_ms).unwrap_or(0));
                *shown = (now_ms, passed);
                passed
            }
        }
    }
}
