//! Limits on rates and on concurrent use: budgets over time, slots, bytes and connections, each for any kind of key.
//!
//! Invariants of budgets: all instances of a server together grant no more than one budget ([`InstanceCount`]). Memory is
//! bounded, also where clients invent keys. A clock that is set back restores no budget, and time goes on from there.
//! When there are more keys than a store keeps, it drops the least recently used keys, which then begin again with a
//! full budget.

mod bytes;
mod connections;
mod cpu;
mod fair;
mod scope;
mod slots;
mod time;
mod weight;

use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
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

pub use self::cpu::{CpuBusy, CpuGate};
pub use self::weight::{Weigh, entry_weight};

use self::time::Time;
use crate::config::Rate;

pub use bytes::{ByteBudget, ByteHolder, BytesExhausted, STEP_BYTES};
pub use connections::{ConnectionRefused, ConnectionRoster, OpenConnection};
pub use fair::FairBudget;
pub use scope::{InstanceCount, LimitScope};
pub use slots::{KeyedSlots, SlotHolder};

/// Keys of one kind in memory: 100 000 accounts are about 20 MB.
const MAX_KEYS: u64 = 100_000;

/// The state of a budget after a call took from it, or was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub rate: Rate,
    /// What is left of the rate, as this instance knows.
    pub remaining: u32,
    /// What one call costs on this instance.
    pub cost: u32,
    /// The time until the budget is full again.
    pub full_in: Duration,
    /// The time until the budget has one again, if the call was refused.
    pub refused_for: Option<Duration>,
}

/// A budget that all callers share.
pub struct Budget {
    rate: Rate,
    instances: InstanceCount,
    limiter: RateLimiter<NotKeyed, InMemoryState, Time, StateInformationMiddleware>,
}

impl Budget {
    pub fn new(rate: Rate, scope: &LimitScope) -> Self {
        let state = InMemoryState::default();
        let limiter = RateLimiter::new(quota(rate), state, Time::new(&scope.clock));
        Self { rate, instances: scope.instances.clone(), limiter }
    }

    /// Takes one, if the budget has one.
    pub fn take(&self) -> Standing {
        self.take_many(NonZeroU32::MIN)
    }

    /// Takes `quantity` at once, or none: a `quantity` beyond the full budget is never granted.
    pub fn take_many(&self, quantity: NonZeroU32) -> Standing {
        let cost = self.instances.cost(quantity, self.rate.quantity);
        match self.limiter.check_n(cost) {
            Ok(checked) => standing(self.rate, cost, checked, self.limiter.clock()),
            Err(_) => never(self.rate, cost),
        }
    }
}

/// A budget for each key.
pub struct Budgets<K: Hash + Eq + Clone + Send + Sync + 'static> {
    rate: Rate,
    instances: InstanceCount,
    kept: Kept<K>,
    limiter: RateLimiter<K, Kept<K>, Time, StateInformationMiddleware>,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Budgets<K> {
    pub fn new(rate: Rate, scope: &LimitScope) -> Self {
        Self::keeping(rate, scope, MAX_KEYS)
    }

    fn keeping(rate: Rate, scope: &LimitScope, max_keys: u64) -> Self {
        // Fixed size: fingerprints and times.
        let states = Cache::builder()
            .max_capacity(max_keys)
            .eviction_policy(EvictionPolicy::lru())
            // A budget unused for its period is full again, and need not be kept.
            .time_to_idle(rate.period * 2);
        let kept = Kept { states: states.build(), secrets: [RandomState::new(), RandomState::new()], key: PhantomData };
        let limiter = RateLimiter::new(quota(rate), kept.clone(), Time::new(&scope.clock));
        Self { rate, instances: scope.instances.clone(), kept, limiter }
    }

    /// The size of a key's full budget.
    pub fn whole(&self) -> NonZeroU32 {
        self.rate.quantity
    }

    /// Takes one from the key's budget, if that has one.
    pub fn take(&self, key: &K) -> Standing {
        self.take_many(key, NonZeroU32::MIN)
    }

    /// Takes `quantity` at once from the key's budget, or none: a `quantity` beyond the full budget is never granted.
    pub fn take_many(&self, key: &K, quantity: NonZeroU32) -> Standing {
        let cost = self.instances.cost(quantity, self.rate.quantity);
        match self.limiter.check_key_n(key, cost) {
            Ok(checked) => standing(self.rate, cost, checked, self.limiter.clock()),
            Err(_) => never(self.rate, cost),
        }
    }

    /// How long none can be taken, if so. Takes nothing.
    pub fn spent(&self, key: &K) -> Option<Standing> {
        let state = self.kept.states.get(&self.kept.fingerprint(key))?;
        let mut whole_at = Nanos::from(0_u64);
        let read = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), _>);
        if let Err(Some(at)) = read {
            whole_at = at;
        }
        let now = self.limiter.clock().now();
        let cost = self.instances.cost(NonZeroU32::MIN, self.rate.quantity);
        let tolerance = interval(self.rate) * (self.rate.quantity.get() - cost.get());
        let next = Duration::from(whole_at).saturating_sub(tolerance);
        let refused_for = next.checked_sub(now).filter(|wait| !wait.is_zero())?;
        Some(refused(self.rate, cost, refused_for))
    }

    #[cfg(test)]
    fn keys(&self) -> u64 {
        self.kept.states.run_pending_tasks();
        self.kept.states.entry_count()
    }
}

/// The states of a bounded number of keys. A key may be as long as a client chooses, so a keyed fingerprint of 128 bits
/// stands for it: two keys with one fingerprint would share a budget.
#[derive(Clone)]
struct Kept<K> {
    states: Cache<[u64; 2], Arc<InMemoryState>>,
    secrets: [RandomState; 2],
    key: PhantomData<fn(&K)>,
}

impl<K: Hash> Kept<K> {
    fn fingerprint(&self, key: &K) -> [u64; 2] {
        self.secrets.each_ref().map(|secret| secret.hash_one(key))
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> StateStore for Kept<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.states.get_with(self.fingerprint(key), Arc::default);
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

/// The time in which a budget regains one.
fn interval(rate: Rate) -> Duration {
    (rate.period / rate.quantity.get()).max(Duration::from_nanos(1))
}

fn quota(rate: Rate) -> Quota {
    // A period is never zero: `interval` sees to that.
    let quota = Quota::with_period(interval(rate)).unwrap_or_else(|| Quota::per_second(rate.quantity));
    quota.allow_burst(rate.quantity)
}

fn refused(rate: Rate, cost: NonZeroU32, wait: Duration) -> Standing {
    Standing { rate, remaining: 0, cost: cost.get(), full_in: rate.period, refused_for: Some(wait) }
}

/// The standing after a request for more than the full budget.
fn never(rate: Rate, cost: NonZeroU32) -> Standing {
    refused(rate, cost, rate.period)
}

type Checked = Result<governor::middleware::StateSnapshot, governor::NotUntil<Duration>>;

fn standing(rate: Rate, cost: NonZeroU32, checked: Checked, clock: &Time) -> Standing {
    match checked {
        Ok(snapshot) => {
            let remaining = snapshot.remaining_burst_capacity();
            let full_in = interval(rate) * (rate.quantity.get() - remaining.min(rate.quantity.get()));
            Standing { rate, remaining, cost: cost.get(), full_in, refused_for: None }
        }
        Err(until) => refused(rate, cost, until.wait_time_from(clock.now())),
    }
}

#[cfg(test)]
mod tests;
