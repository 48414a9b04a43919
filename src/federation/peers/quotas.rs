//! Quotas of peers.
//!
//! Invariant: quotas count for the registrable domain, so that a thousand subdomains are one; a new domain is on
//! probation, and all domains on probation together have a fifth of the whole.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{PeerRates, Rate};
use crate::federation::PeerRefused;
use crate::limit::{Budget, Budgets, InstanceCount, LimitScope, Standing, Weigh, entry_weight};
use crate::types::Did;

/// Requests of one domain in flight: its servers' own requests, and those for accounts.
const IN_FLIGHT: usize = 8;
const IN_FLIGHT_OF_PEOPLE: usize = 16;
/// Requests for one account in flight.
const IN_FLIGHT_OF_ONE: usize = 4;
/// Requests of one domain that wait for a slot, and the time that they wait.
const WAITING: usize = 64;
const WAIT: Duration = Duration::from_secs(1);
/// All requests for accounts of one domain have this many times the rate of its servers' own requests, so that an
/// active account stays one of many; each account has half of that rate.
const PEOPLE_PART: u32 = 4;
const PERSON_PART: u32 = 2;
/// Bytes of the cache of domains, and of accounts, with requests in flight.
const MAX_DOMAINS_BYTES: u64 = 4 << 20;
const MAX_PEOPLE_BYTES: u64 = 16 << 20;
/// A domain on probation has `1 / PROBATION_PART` of every quota.
const PROBATION_PART: u32 = 10;
/// All domains on probation together have the quotas of this many full domains: a fifth of a server that is built for
/// fifty.
const PROBATION_DOMAINS: u32 = 10;

/// Quantities with quotas, besides requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    Entries,
    /// In KiB.
    ReceivedKib,
    Invitations,
    KeyPackages,
    /// New devices of the domain's accounts.
    Devices,
}

/// How a peer counts: its registrable domain, and whether it is on probation.
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
    people: Both,
    person: Budgets<(Arc<str>, Did)>,
    person_on_probation: Budgets<(Arc<str>, Did)>,
    entries: Both,
    received_kib: Both,
    invitations: Both,
    key_packages: Both,
    devices: Both,
    in_flight: Cache<Arc<str>, Arc<Places>>,
    in_flight_of_one: Cache<(Arc<str>, Did), Arc<Semaphore>>,
    instances: InstanceCount,
}

/// The slots of one domain.
struct Places {
    servers: Arc<Semaphore>,
    people: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Weigh for Places {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + 2 * size_of::<Semaphore>()
    }
}

impl Places {
    fn new() -> Self {
        let (servers, people) = (Semaphore::new(IN_FLIGHT), Semaphore::new(IN_FLIGHT_OF_PEOPLE));
        Self { servers: Arc::new(servers), people: Arc::new(people), waiting: Semaphore::new(WAITING) }
    }

    /// Takes as many of the slots as one request holds, at once or after a short wait.
    async fn take(&self, slots: &Arc<Semaphore>, held: u32) -> Result<OwnedSemaphorePermit, PeerRefused> {
        let full = || PeerRefused::RateLimited { retry_after_s: 1 };
        if let Ok(place) = Arc::clone(slots).try_acquire_many_owned(held) {
            return Ok(place);
        }
        let _waits = self.waiting.try_acquire().map_err(|_| full())?;
        let place = tokio::time::timeout(WAIT, Arc::clone(slots).acquire_many_owned(held)).await;
        place.map_err(|_| full())?.map_err(|_| full())
    }
}

/// The slots that a request in flight holds until it is answered.
#[derive(Debug)]
pub struct InFlight {
    _places: (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit),
}

/// Invitations that a domain's servers may deliver, key packages that they may claim, and new devices that they may
/// name. The compiler evaluates that these are not 0.
const INVITATIONS: Rate = Rate { quantity: NonZeroU32::new(100).unwrap(), period: Duration::from_hours(1) };
const DEVICES: Rate = Rate { quantity: NonZeroU32::new(1_000).unwrap(), period: Duration::from_hours(1) };
const KEY_PACKAGES: Rate = Rate { quantity: NonZeroU32::new(1_000).unwrap(), period: Duration::from_hours(1) };

impl Quotas {
    pub fn new(rates: PeerRates, scope: &LimitScope) -> Self {
        let both = |rate| Both::new(rate, scope);
        let quantity = rates.requests.quantity.get();
        let of = |quantity: u32| Rate { quantity: quantity.try_into().unwrap_or(NonZeroU32::MIN), ..rates.requests };
        Self {
            requests: both(rates.requests),
            people: both(of(quantity.saturating_mul(PEOPLE_PART))),
            person: Budgets::new(of(quantity / PERSON_PART), scope),
            person_on_probation: Budgets::new(of(quantity / PROBATION_PART), scope),
            entries: both(rates.entries),
            received_kib: both(rates.kib),
            invitations: both(INVITATIONS),
            key_packages: both(KEY_PACKAGES),
            devices: both(DEVICES),
            in_flight: Cache::builder()
                .max_capacity(MAX_DOMAINS_BYTES)
                .weigher(entry_weight)
                .time_to_idle(Duration::from_mins(10))
                .build(),
            in_flight_of_one: Cache::builder()
                .max_capacity(MAX_PEOPLE_BYTES)
                .weigher(entry_weight)
                .time_to_idle(Duration::from_mins(10))
                .build(),
            instances: scope.instances.clone(),
        }
    }

    /// Admits a request of a server or for one of its accounts, which holds its slots while in flight. Requests of
    /// servers among themselves take nothing from requests for accounts, and one account nothing from others.
    pub async fn enter(&self, counted: &Counted, actor: Option<&Did>) -> Result<(InFlight, Standing), PeerRefused> {
        let places = self.in_flight.get_with(Arc::clone(&counted.domain), || Arc::new(Places::new()));
        let Some(actor) = actor else {
            let standing = self.requests.take(counted, NonZeroU32::MIN)?;
            let place = places.take(&places.servers, self.held(IN_FLIGHT)).await?;
            return Ok((InFlight { _places: (None, place) }, standing));
        };
        let person = (Arc::clone(&counted.domain), actor.clone());
        let own = if counted.on_probation { &self.person_on_probation } else { &self.person };
        let standing = within(own.take_many(&person, NonZeroU32::MIN))?;
        self.people.take(counted, NonZeroU32::MIN)?;
        let own = self.in_flight_of_one.get_with(person, || Arc::new(Semaphore::new(IN_FLIGHT_OF_ONE)));
        let own = places.take(&own, self.held(IN_FLIGHT_OF_ONE)).await?;
        let place = places.take(&places.people, self.held(IN_FLIGHT_OF_PEOPLE)).await?;
        Ok((InFlight { _places: (Some(own), place) }, standing))
    }

    /// The slots that one request holds here, of those that all instances share.
    fn held(&self, slots: usize) -> u32 {
        self.instances.slots(u32::try_from(slots).unwrap_or(u32::MAX))
    }

    /// Takes `quantity` of a quota.
    pub fn take(&self, counted: &Counted, quota: Quota, quantity: u64) -> Result<(), PeerRefused> {
        let both = match quota {
            Quota::Entries => &self.entries,
            Quota::ReceivedKib => &self.received_kib,
            Quota::Invitations => &self.invitations,
            Quota::KeyPackages => &self.key_packages,
            Quota::Devices => &self.devices,
        };
        let quantity = NonZeroU32::new(u32::try_from(quantity).unwrap_or(u32::MAX));
        quantity.map_or(Ok(()), |quantity| both.take(counted, quantity).map(drop))
    }
}

impl Both {
    fn new(usual: Rate, scope: &LimitScope) -> Self {
        let quantity = usual.quantity.get();
        let rate = |quantity: u32| Rate { quantity: quantity.try_into().unwrap_or(NonZeroU32::MIN), ..usual };
        Self {
            usual: Budgets::new(usual, scope),
            probation: Budgets::new(rate(quantity / PROBATION_PART), scope),
            all_on_probation: Budget::new(rate(quantity.saturating_mul(PROBATION_DOMAINS)), scope),
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

    use super::{Counted, IN_FLIGHT, IN_FLIGHT_OF_ONE, PeerRates, PeerRefused, Quota, Quotas, Rate, WAIT};
    use crate::limit::LimitScope;
    use crate::types::{Clock, Did, UnixMillis};

    const RATES: PeerRates = PeerRates { requests: of(50, 1), entries: of(100_000, 3600), kib: of(524_288, 3600) };

    const fn of(quantity: u32, seconds: u64) -> Rate {
        Rate { quantity: NonZeroU32::new(quantity).unwrap(), period: Duration::from_secs(seconds) }
    }

    /// The number of requests that the quotas grant, each answered before the next.
    async fn granted(quotas: &Quotas, counted: &Counted, actor: Option<&Did>) -> usize {
        for number in 0..300 {
            if quotas.enter(counted, actor).await.is_err() {
                return number;
            }
        }
        300
    }

    fn counted(domain: &str, on_probation: bool) -> Counted {
        Counted { domain: domain.into(), on_probation }
    }

    #[tokio::test]
    async fn a_domain_has_one_quota_and_a_tenth_on_probation() {
        let clock = Clock::manual(UnixMillis(1_795_000_000_000));
        let quotas = Quotas::new(RATES, &LimitScope::of_process(&clock));
        assert_eq!(granted(&quotas, &counted("a.example", false), None).await, 50);
        assert_eq!(granted(&quotas, &counted("b.example", true), None).await, 5);
        clock.advance_ms(1000);
        assert_eq!(granted(&quotas, &counted("a.example", false), None).await, 50, "the retry succeeds a second later");
        let taken = (0..).take_while(|_| quotas.take(&counted("a.example", false), Quota::Invitations, 1).is_ok());
        assert_eq!(taken.count(), 100);
        // What is more than all is never granted, and takes nothing.
        assert!(quotas.take(&counted("c.example", false), Quota::Entries, 100_001).is_err());
        assert!(quotas.take(&counted("c.example", false), Quota::Entries, 100_000).is_ok());
    }

    #[tokio::test]
    async fn all_on_probation_together_have_a_part_of_the_whole() {
        let quotas = Quotas::new(RATES, &LimitScope::of_process(&Clock::manual(UnixMillis(1_795_000_000_000))));
        let mut taken = 0;
        for number in 0..1000 {
            taken += granted(&quotas, &counted(&format!("p{number}.example"), true), None).await;
        }
        assert_eq!(taken, 500);
        assert!(
            quotas.enter(&counted("known.example", false), None).await.is_ok(),
            "a known account has its own budget"
        );
    }

    #[tokio::test]
    async fn eight_requests_of_a_server_are_in_flight_at_most() {
        let quotas = Quotas::new(RATES, &LimitScope::of_process(&Clock::manual(UnixMillis(1_795_000_000_000))));
        let peer = counted("a.example", false);
        let mut held = Vec::new();
        for _ in 0..IN_FLIGHT {
            held.push(quotas.enter(&peer, None).await.unwrap());
        }
        assert_eq!(quotas.enter(&peer, None).await.unwrap_err(), PeerRefused::RateLimited { retry_after_s: 1 });
        // The ninth request waits a moment for a slot.
        let freed = async {
            tokio::time::sleep(WAIT / 2).await;
            drop(held.pop());
        };
        let (ninth, ()) = tokio::join!(quotas.enter(&peer, None), freed);
        ninth.unwrap();
    }

    #[tokio::test]
    async fn replication_and_accounts_have_separate_limits() {
        let quotas = Quotas::new(RATES, &LimitScope::of_process(&Clock::manual(UnixMillis(1_795_000_000_000))));
        let peer = counted("a.example", false);
        let person = |number: u32| Did::parse(&format!("did:plc:person{number}")).unwrap();
        let mut held = Vec::new();
        for _ in 0..IN_FLIGHT {
            held.push(quotas.enter(&peer, None).await.unwrap());
        }
        for number in 0..4 {
            for _ in 0..IN_FLIGHT_OF_ONE {
                held.push(quotas.enter(&peer, Some(&person(number))).await.unwrap());
            }
            assert!(quotas.enter(&peer, Some(&person(number))).await.is_err(), "one account has 4 slots");
        }
        assert!(quotas.enter(&peer, Some(&person(4))).await.is_err(), "a domain has 16 slots for all accounts");
        held.truncate(IN_FLIGHT);
        assert!(
            quotas.enter(&peer, Some(&person(4))).await.is_ok(),
            "requests for accounts do not wait for replication"
        );
        drop(held);
        // An abusive account spends its own budget.
        assert_eq!(granted(&quotas, &peer, Some(&person(5))).await, 25);
        assert!(quotas.enter(&peer, Some(&person(6))).await.is_ok());
        assert!(quotas.enter(&peer, None).await.is_ok());
    }
}
