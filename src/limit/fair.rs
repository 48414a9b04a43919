//! A budget that many keys share and no key can spend alone.

use std::hash::Hash;
use std::num::NonZeroU32;

use super::{Budget, Budgets, LimitScope, Standing};
use crate::config::Rate;

/// `1 / KEPT_BACK` of the common budget is reserved for keys that ask for little.
const KEPT_BACK: u32 = 2;
/// A key asks for little while it uses at most `1 / LITTLE` of its own budget.
const LITTLE: u32 = 20;

/// A budget for each key, and one for all keys together, half of which is reserved for keys that ask for little.
pub struct FairBudget<K: Hash + Eq + Clone + Send + Sync + 'static> {
    each: Budgets<K>,
    little: Budgets<K>,
    common: Budget,
    kept_back: Budget,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> FairBudget<K> {
    pub fn new(each: Rate, all: Rate, scope: &LimitScope) -> Self {
        Self {
            each: Budgets::new(each, scope),
            little: Budgets::new(part(each, LITTLE), scope),
            common: Budget::new(part(all, KEPT_BACK), scope),
            kept_back: Budget::new(part(all, KEPT_BACK), scope),
        }
    }

    /// Takes one from the key's budget and one from the common budget, or from its reserved half for a key that asks
    /// for little. A refusal by the common budget still costs the key one.
    pub fn take(&self, key: &K) -> Standing {
        let own = self.each.take(key);
        if own.refused_for.is_some() {
            return own;
        }
        let asks_little = self.little.take(key).refused_for.is_none();
        let common = self.common.take();
        match common.refused_for {
            None => own,
            Some(_) if asks_little => self.kept_back.take(),
            Some(_) => common,
        }
    }
}

/// `1 / of` of a rate, and at least one.
fn part(rate: Rate, of: u32) -> Rate {
    Rate { quantity: (rate.quantity.get() / of).try_into().unwrap_or(NonZeroU32::MIN), ..rate }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{FairBudget, LimitScope};
    use crate::config::Rate;
    use crate::types::{Clock, UnixMillis};

    #[test]
    fn a_key_that_asks_for_much_leaves_half_to_the_others() {
        let rate = |quantity: u32| Rate { quantity: quantity.try_into().unwrap(), period: Duration::from_mins(1) };
        let clock = Clock::manual(UnixMillis(1_795_000_000_000));
        let budget = FairBudget::new(rate(40), rate(20), &LimitScope::of_process(&clock));
        assert_eq!((0..60).filter(|_| budget.take(&0).refused_for.is_none()).count(), 10, "half of the common budget");
        for key in 1..5 {
            assert_eq!(budget.take(&key).refused_for, None);
        }
        assert!(
            (5..60).filter(|key| budget.take(key).refused_for.is_none()).count() <= 6,
            "and no more than the common budget"
        );
    }
}
