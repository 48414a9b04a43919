//! How often something may happen, and how much of something may be held at one time: budgets over time, slots, bytes and
//! connections, each for any kind of key.
//!
//! Invariants of budgets: memory is bounded, whoever invents keys; a clock that is set back brings nothing, and goes on from there.
//! When there are more keys than are kept, those that were used longest ago are forgotten: they begin anew, with all they
//! may have.

mod bytes;
mod connections;
mod fair;
mod slots;
mod time;

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use self::time::Time;
use crate::config::Rate;
use crate::types::Clock;

pub use bytes::{ByteBudget, ByteHolder, BytesExhausted, STEP_BYTES};
pub use connections::{ConnectionRefused, ConnectionRoster, OpenConnection};
pub use fair::FairBudget;
pub use slots::{KeyedSlots, SlotHolder};

/// Keys of one kind that are kept: 100 000 accounts are about 20 MB.
const MAX_KEYS: u64 = 100_000;

/// Where a budget stands after something was taken from it, or was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub rate: Rate,
    pub remaining: u32,
    /// Until all of it is back.
    pub full_in: Duration,
    /// Until one is back, when there was none to take.
    pub refused_for: Option<Duration>,
}

/// One budget for everybody.
pub struct Budget {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, Time, StateInformationMiddleware>,
}

impl Budget {
    pub fn new(rate: Rate, clock: &Clock) -> Self {
        let state = InMemoryState::default();
        Self { rate, limiter: RateLimiter::new(quota(rate), state, Time::new(clock)) }
    }

    /// Takes one, if there is one.
    pub fn take(&self) -> Standing {
        standing(self.rate, self.limiter.check(), self.limiter.clock())
    }

    /// Takes so many at once, or none: more than all there ever is are never granted.
    pub fn take_many(&self, quantity: NonZeroU32) -> Standing {
        match self.limiter.check_n(quantity) {
            Ok(checked) => standing(self.rate, checked, self.limiter.clock()),
            Err(_) => never(self.rate),
        }
    }
}

/// A budget for each key.
pub struct Budgets<K: Hash + Eq + Clone + Send + Sync + 'static> {
    rate: Rate,
    kept: Kept<K>,
    limiter: RateLimiter<K, Kept<K>, Time, StateInformationMiddleware>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Budgets<K> {
    pub fn new(rate: Rate, clock: &Clock) -> Self {
        Self::keeping(rate, clock, MAX_KEYS)
    }

    fn keeping(rate: Rate, clock: &Clock, max_keys: u64) -> Self {
        let states = Cache::builder()
            .max_capacity(max_keys)
            .eviction_policy(EvictionPolicy::lru())
            // A budget that nobody touched for its period is whole again, and worth nothing.
            .time_to_idle(rate.period * 2);
        let kept = Kept(states.build());
        let limiter = RateLimiter::new(quota(rate), kept.clone(), Time::new(clock));
        Self { rate, kept, limiter }
    }

    /// Takes one of this key's, if there is one.
    pub fn take(&self, key: &K) -> Standing {
        standing(self.rate, self.limiter.check_key(key), self.limiter.clock())
    }

    /// Takes so many of this key's at once, or none: more than all there ever is are never granted.
    pub fn take_many(&self, key: &K, quantity: NonZeroU32) -> Standing {
        match self.limiter.check_key_n(key, quantity) {
            Ok(checked) => standing(self.rate, checked, self.limiter.clock()),
            Err(_) => never(self.rate),
        }
    }

    /// How long none can be taken, if so. Takes nothing.
    pub fn spent(&self, key: &K) -> Option<Standing> {
        let state = self.kept.0.get(key)?;
        let mut whole_at = Nanos::from(0_u64);
        let read = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
        if let Err(Some(at)) = read {
            whole_at = at;
        }
        let now = self.limiter.clock().now();
        let tolerance = interval(self.rate) * (self.rate.quantity.get() - 1);
        let next = Duration::from(whole_at).saturating_sub(tolerance);
        let refused_for = next.checked_sub(now).filter(|wait| !wait.is_zero())?;
        Some(Standing { rate: self.rate, remaining: 0, full_in: self.rate.period, refused_for: Some(refused_for) })
    }

    #[cfg(test)]
    fn keys(&self) -> u64 {
        self.kept.0.run_pending_tasks();
        self.kept.0.entry_count()
    }
}

/// States by key, of which only so many are kept.
#[derive(Clone)]
struct Kept<K: Hash + Eq + Send + Sync + 'static>(Cache<K, Arc<InMemoryState>>);

impl<K: Hash + Eq + Clone + Send + Sync + 'static> StateStore for Kept<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.get_with_by_ref(key, Arc::default);
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

/// Until one comes back.
fn interval(rate: Rate) -> Duration {
    (rate.period / rate.quantity.get()).max(Duration::from_nanos(1))
}

fn quota(rate: Rate) -> Quota {
    // A period is never zero: `interval` sees to that.
    let quota = Quota::with_period(interval(rate)).unwrap_or_else(|| Quota::per_second(rate.quantity));
    quota.allow_burst(rate.quantity)
}

/// What was asked for is more than the whole.
fn never(rate: Rate) -> Standing {
    Standing { rate, remaining: 0, full_in: rate.period, refused_for: Some(rate.period) }
}

type Checked = Result<governor::middleware::StateSnapshot, governor::NotUntil<Duration>>;

fn standing(rate: Rate, checked: Checked, clock: &Time) -> Standing {
    match checked {
        Ok(snapshot) => {
            let remaining = snapshot.remaining_burst_capacity();
            let full_in = interval(rate) * (rate.quantity.get() - remaining.min(rate.quantity.get()));
            Standing { rate, remaining, full_in, refused_for: None }
        }
        Err(until) => {
            let wait = until.wait_time_from(clock.now());
            Standing { rate, remaining: 0, full_in: rate.period, refused_for: Some(wait) }
        }
    }
}

#[cfg(test)]
mod tests;
