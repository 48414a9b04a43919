//! So many a second, and no more at once. A token bucket.

use std::sync::{Mutex, PoisonError};

use crate::types::Clock;

pub(super) struct Budget {
    per_second: u32,
    /// Thousandths left, and when they were counted.
    left: Mutex<(u64, i64)>,
    clock: Clock,
}

impl Budget {
    pub fn new(per_second: u32, clock: Clock) -> Self {
        Self { per_second, left: Mutex::new((u64::from(per_second) * 1000, clock.now().0)), clock }
    }

    /// Whether there is one left, which is taken.
    pub fn take(&self) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (thousandths, at_ms) = *left;
        let now_ms = self.clock.now().0;
        // A clock that was set back brings nothing, and goes on from there.
        let passed_ms = u64::try_from(now_ms - at_ms).unwrap_or(0);
        let most = u64::from(self.per_second) * 1000;
        let filled = thousandths.saturating_add(passed_ms.saturating_mul(u64::from(self.per_second))).min(most);
        let taken = filled >= 1000;
        *left = (if taken { filled - 1000 } else { filled }, now_ms);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use crate::types::{Clock, UnixMillis};

    #[test]
    fn what_is_spent_comes_back_with_time_and_never_beyond_a_second() {
        let clock = Clock::manual(UnixMillis(1_795_000_000_000));
        let budget = Budget::new(20, clock.clone());
        let spend = || (0..100).filter(|_| budget.take()).count();
        assert_eq!(spend(), 20);
        clock.advance_ms(49);
        assert_eq!(spend(), 0);
        clock.advance_ms(1);
        assert_eq!(spend(), 1);
        clock.advance_ms(3_600_000);
        assert_eq!(spend(), 20);
        clock.advance_ms(-60_000);
        assert_eq!(spend(), 0);
        clock.advance_ms(500);
        assert_eq!(spend(), 10);
    }
}
