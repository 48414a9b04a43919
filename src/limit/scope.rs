//! How several instances share the limits of one server.
//!
//! Invariant: a call costs as many units of a limit as there are instances that answer calls. All instances together
//! then grant no more than the limit, without a word between them; each grants at least one.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::types::Clock;

/// The number of instances that answer calls, this one included. Cheap to clone; all clones show one number.
#[derive(Clone, Debug)]
pub struct InstanceCount(Arc<AtomicU32>);

impl InstanceCount {
    /// The count of an instance that knows of no other.
    pub fn alone() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }

    /// Records how many instances answer calls; zero counts as one.
    pub fn set(&self, instances: u32) {
        self.0.store(instances.max(1), Ordering::Relaxed);
    }

    /// The units of a limit that `quantity` costs here, at most the `whole` limit.
    pub(super) fn cost(&self, quantity: NonZeroU32, whole: NonZeroU32) -> NonZeroU32 {
        let instances = NonZeroU32::new(self.0.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN);
        quantity.saturating_mul(instances).min(whole.max(quantity))
    }

    /// The slots that one holder takes, of as many as there are for all instances.
    pub fn slots(&self, of: u32) -> u32 {
        self.cost(NonZeroU32::MIN, NonZeroU32::new(of).unwrap_or(NonZeroU32::MIN)).get()
    }
}

/// The clock of limits, and the instances that share them.
#[derive(Clone, Debug)]
pub struct LimitScope {
    pub clock: Clock,
    pub instances: InstanceCount,
}

impl LimitScope {
    /// Limits of this process alone.
    pub fn of_process(clock: &Clock) -> Self {
        Self { clock: clock.clone(), instances: InstanceCount::alone() }
    }
}
