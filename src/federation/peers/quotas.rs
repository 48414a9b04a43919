//! How much a peer may ask.
//!
//! Invariant: what is counted is counted for the registrable domain, so that a thousand subdomains are one; who is new is
//! on probation, and all who are have a fifth of the whole together.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{PeerRates, Rate};
use crate::federation::PeerRefused;
use crate::limit::{Budget, Budgets, Standing, entry_weight};
use crate::types::Clock;

/// Requests of one domain at one time.
const IN_FLIGHT: usize = 8;
/// Bytes of domains whose requests in flight are told apart.
const MAX_DOMAINS_BYTES: u64 = 4 << 20;
/// Of everything, a domain on probation has one part in so many …
const PROBATION_PART: u32 = 10;
/// … and all of them together have as much as so many domains that are not: a fifth of a server that is built for fifty.
const PROBATION_DOMAINS: u32 = 10;

/// What is counted beside requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Entries,
    /// In KiB.
    ReceivedKib,
    Invitations,
    KeyPackages,
}

/// As whom a peer is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub domain: Arc<str>,
    /// First seen within the last days, and not allowed by the operator.
    pub on_probation: bool,
}

struct Both {
    usual: Budgets<Arc<str>>,
    probation: Budgets<Arc<str>>,
    all_on_probation: Budget,
}

pub struct Quotas {
    requests: Both,
    entries: Both,
    received_kib: Both,
    invitations: Both,
    key_packages: Both,
    in_flight: Cache<Arc<str>, Arc<Semaphore>>,
}

/// Invitations that a domain's servers may deliver, and key packages that they may claim. The compiler works out that these
/// are not 0.
const INVITATIONS: Rate = Rate { quantity: NonZeroU32::new(100).unwrap(), period: Duration::from_hours(1) };
const KEY_PACKAGES: Rate = Rate { quantity: NonZeroU32::new(1_000).unwrap(), period: Duration::from_hours(1) };

impl Quotas {
    pub fn new(rates: PeerRates, clock: &Clock) -> Self {
        let both = |rate| Both::new(rate, clock);
        Self {
            requests: both(rates.requests),
            entries: both(rates.entries),
            received_kib: both(rates.kib),
            invitations: both(INVITATIONS),
            key_packages: both(KEY_PACKAGES),
            in_flight: Cache::builder()
                .max_capacity(MAX_DOMAINS_BYTES)
                .weigher(entry_weight)
                .time_to_idle(Duration::from_mins(10))
                .build(),
        }
    }

    /// One request: its place among those in flight, for as long as it is held.
    pub fn enter(&self, counted: &Counted) -> Result<(OwnedSemaphorePermit, Standing), PeerRefused> {
        let standing = self.requests.take(counted, NonZeroU32::MIN)?;
        let slots = self.in_flight.get_with(Arc::clone(&counted.domain), || Arc::new(Semaphore::new(IN_FLIGHT)));
        let slot = slots.try_acquire_owned().map_err(|_| PeerRefused::RateLimited { retry_after_s: 1 })?;
        Ok((slot, standing))
    }

    /// So many more of something.
    pub fn take(&self, counted: &Counted, quota: Quota, quantity: u64) -> Result<(), PeerRefused> {
        let both = match quota {
            Quota::Entries => &self.entries,
            Quota::ReceivedKib => &self.received_kib,
            Quota::Invitations => &self.invitations,
            Quota::KeyPackages => &self.key_packages,
        };
        let quantity = NonZeroU32::new(u32::try_from(quantity).unwrap_or(u32::MAX));
        quantity.map_or(Ok(()), |quantity| both.take(counted, quantity).map(drop))
    }
}

impl Both {
    fn new(usual: Rate, clock: &Clock) -> Self {
        let quantity = usual.quantity.get();
        let rate = |quantity: u32| Rate { quantity: quantity.try_into().unwrap_or(NonZeroU32::MIN), ..usual };
        Self {
            usual: Budgets::new(usual, clock),
            probation: Budgets::new(rate(quantity / PROBATION_PART), clock),
            all_on_probation: Budget::new(rate(quantity.saturating_mul(PROBATION_DOMAINS)), clock),
        }
    }

    fn take(&self, counted: &Counted, quantity: NonZeroU32) -> Result<Standing, PeerRefused> {
        if counted.on_probation {
            let standing = within(self.probation.take_many(&counted.domain, quantity))?;
            within(self.all_on_probation.take_many(quantity)).map(|_| standing)
        } else {
            within(self.usual.take_many(&counted.domain, quantity))
        }
    }
}

fn within(standing: Standing) -> Result<Standing, PeerRefused> {
    match standing.refused_for {
        None => Ok(standing),
        Some(wait) => Err(PeerRefused::RateLimited { retry_after_s: wait.as_secs() + 1 }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{Counted, IN_FLIGHT, PeerRates, PeerRefused, Quota, Quotas, Rate};
    use crate::types::{Clock, UnixMillis};

    const RATES: PeerRates = PeerRates { requests: of(50, 1), entries: of(100_000, 3600), kib: of(524_288, 3600) };

    const fn of(quantity: u32, seconds: u64) -> Rate {
        Rate { quantity: NonZeroU32::new(quantity).unwrap(), period: Duration::from_secs(seconds) }
    }

    fn counted(domain: &str, on_probation: bool) -> Counted {
        Counted { domain: domain.into(), on_probation }
    }

    #[test]
    fn a_domain_has_what_it_has_however_many_names_it_uses_and_one_on_probation_a_tenth() {
        let clock = Clock::manual(UnixMillis(1_795_000_000_000));
        let quotas = Quotas::new(RATES, &clock);
        let granted = |counted: &Counted| (0..200).take_while(|_| quotas.enter(counted).is_ok()).count();
        assert_eq!(granted(&counted("a.example", false)), 50);
        assert_eq!(granted(&counted("b.example", true)), 5);
        clock.advance_ms(1000);
        assert_eq!(granted(&counted("a.example", false)), 50, "a second later");
        let taken = (0..).take_while(|_| quotas.take(&counted("a.example", false), Quota::Invitations, 1).is_ok());
        assert_eq!(taken.count(), 100);
        // What is more than all is never granted, and takes nothing.
        assert!(quotas.take(&counted("c.example", false), Quota::Entries, 100_001).is_err());
        assert!(quotas.take(&counted("c.example", false), Quota::Entries, 100_000).is_ok());
    }

    #[test]
    fn all_on_probation_together_have_a_part_of_the_whole() {
        let quotas = Quotas::new(RATES, &Clock::manual(UnixMillis(1_795_000_000_000)));
        let taken: usize = (0..1000)
            .map(|number| {
                let peer = counted(&format!("p{number}.example"), true);
                (0..10).take_while(|_| quotas.enter(&peer).is_ok()).count()
            })
            .sum();
        assert_eq!(taken, 500);
        assert!(quotas.enter(&counted("known.example", false)).is_ok(), "who is known has its own");
    }

    #[test]
    fn eight_requests_are_in_flight_at_most() {
        let quotas = Quotas::new(RATES, &Clock::manual(UnixMillis(1_795_000_000_000)));
        let peer = counted("a.example", false);
        let held: Vec<_> = (0..IN_FLIGHT).map(|_| quotas.enter(&peer).unwrap()).collect();
        assert_eq!(quotas.enter(&peer).unwrap_err(), PeerRefused::RateLimited { retry_after_s: 1 });
        drop(held);
        assert!(quotas.enter(&peer).is_ok());
    }
}
