//! How often anybody may call.
//!
//! Invariants: every request is counted once, against the account that it proves or, if it proves nobody, against the
//! address that it came from; an account counts only once a token of it was verified; whatever one account or address
//! does costs no other account its budget. How it is kept is in decision 0016.

mod address;
mod body;
mod class;
mod layer;
mod visit;

use std::sync::Once;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::Fault;
use crate::config;
use crate::identity::Resolver;
use crate::limit::{Budget, Budgets, Standing, entry_weight};
use crate::telemetry::{Redactor, metric_name};
use crate::types::{Clock, Did};

pub use address::Address;
pub use body::body_bytes;
pub use class::Class;
pub use layer::{Doors, around};
pub use visit::{From, Visit};

/// For how long an account is known by name since it was last proven.
const REMEMBERED: Duration = Duration::from_hours(24);
/// Bytes of accounts that are.
const REMEMBERED_BYTES: u64 = 32 << 20;
/// Of all first fetches, the part that is kept for addresses that ask little: one in so many …
const KEPT_BACK: u32 = 2;
/// … and what is little: one in so many of what an address may fetch.
const LITTLE: u32 = 20;
/// Keys that may have rotated and that one address makes this server look at anew, while others spend the common budget.
/// The compiler works out that 6 is not 0.
const REFRESH: config::Rate =
    config::Rate { quantity: std::num::NonZeroU32::new(6).unwrap(), period: Duration::from_mins(1) };

/// All budgets of this replica.
pub struct Limits {
    accounts: Accounts,
    open: Budgets<Address>,
    probe: Budgets<Address>,
    failure: Budgets<Address>,
    /// Failures in the name of an account that was here, from one address.
    impostor: Budgets<(Address, Did)>,
    fetch: Budgets<Address>,
    refresh: Budgets<Address>,
    little: Budgets<Address>,
    fetches: Budget,
    kept_back: Budget,
    remembered: Cache<Did, ()>,
    trusted: Vec<ipnet::IpNet>,
    told_of_a_proxy: Once,
    redactor: Redactor,
}

struct Accounts {
    read: Budgets<Did>,
    write: Budgets<Did>,
    message: Budgets<Did>,
    key_package: Budgets<Did>,
    account: Budgets<Did>,
    subscribe: Budgets<Did>,
}

impl Limits {
    pub fn new(limits: &config::Limits, redactor: Redactor, clock: &Clock) -> Self {
        let (accounts, addresses, all) = (&limits.accounts, &limits.addresses, limits.first_fetches);
        let part = |rate: config::Rate, of: u32| {
            // At least one: what is left of a very small budget.
            config::Rate {
                quantity: (rate.quantity.get() / of).try_into().unwrap_or(std::num::NonZeroU32::MIN),
                ..rate
            }
        };
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(entry_weight);
        let remembered = remembered.eviction_policy(EvictionPolicy::lru());
        Self {
            accounts: Accounts {
                read: Budgets::new(accounts.read, clock),
                write: Budgets::new(accounts.write, clock),
                message: Budgets::new(accounts.message, clock),
                key_package: Budgets::new(accounts.key_package, clock),
                account: Budgets::new(accounts.account, clock),
                subscribe: Budgets::new(accounts.subscribe, clock),
            },
            open: Budgets::new(addresses.open, clock),
            probe: Budgets::new(addresses.probe, clock),
            failure: Budgets::new(addresses.failure, clock),
            impostor: Budgets::new(addresses.failure, clock),
            fetch: Budgets::new(addresses.first_fetch, clock),
            refresh: Budgets::new(REFRESH, clock),
            little: Budgets::new(part(addresses.first_fetch, LITTLE), clock),
            fetches: Budget::new(part(all, KEPT_BACK), clock),
            kept_back: Budget::new(part(all, KEPT_BACK), clock),
            remembered: remembered.time_to_idle(REMEMBERED).build(),
            trusted: limits.trusted_proxies.clone(),
            told_of_a_proxy: Once::new(),
            redactor,
        }
    }

    fn of_account(&self, class: Class) -> Option<&Budgets<Did>> {
        let accounts = &self.accounts;
        match class {
            Class::Read => Some(&accounts.read),
            Class::Write => Some(&accounts.write),
            Class::Message => Some(&accounts.message),
            Class::KeyPackage => Some(&accounts.key_package),
            Class::Account => Some(&accounts.account),
            Class::Subscribe => Some(&accounts.subscribe),
            Class::Peer | Class::Open | Class::Probe | Class::Failure => None,
        }
    }

    /// Counts a call of an account that has just been proven.
    pub(super) fn proven(&self, visit: &Visit, class: Class, did: &Did) -> Result<(), Fault> {
        if self.remembered.get(did).is_none() {
            self.remembered.insert(did.clone(), ());
        }
        let Some(budget) = self.of_account(class) else {
            return Err(Fault::internal("a method that takes a proof is in no class of accounts"));
        };
        let standing = budget.take(did);
        visit.counted(standing, From::Account(self.redactor.did(did)));
        within(class.name(), standing)
    }

    /// Counts work of a proven account beyond its one call, in calls of that class. More than the whole budget counts as
    /// the whole budget: the work is then done once in a period.
    pub fn work(&self, class: Class, did: &Did, calls: u32) -> Result<(), Fault> {
        let Some(budget) = self.of_account(class) else {
            return Err(Fault::internal("work is counted in a class of accounts"));
        };
        let Some(calls) = std::num::NonZeroU32::new(calls) else { return Ok(()) };
        within("work", budget.take_many(did, calls.min(budget.whole())))
    }

    /// Counts a request that asks for no proof.
    fn open(&self, visit: &Visit, class: Class) -> Result<(), Fault> {
        let budget = if class == Class::Probe { &self.probe } else { &self.open };
        let standing = budget.take(&visit.address);
        visit.counted(standing, self.from(visit));
        within(class.name(), standing)
    }

    /// Before anything is asked or computed for a token of this issuer, who has proven nothing yet: whether the address
    /// may have it looked at. One that failed too often may, in the name of accounts that were here lately and in whose
    /// name it did not fail too often as well.
    pub(super) fn may_prove(&self, visit: &Visit, issuer: Option<&Did>) -> Result<(), Fault> {
        let known = issuer.filter(|did| self.remembered.contains_key(*did));
        if let Some(did) = known {
            visit.claims(did);
        }
        let Some(spent) = self.failure.spent(&visit.address) else { return Ok(()) };
        let spent = match known {
            Some(did) => self.impostor.spent(&(visit.address, did.clone())),
            None => Some(spent),
        };
        spent.map_or(Ok(()), |standing| {
            visit.counted(standing, self.from(visit));
            within(Class::Failure.name(), standing)
        })
    }

    /// Before the DID document of this issuer is fetched: whether nothing is known of it, and the address may still bring
    /// new ones.
    pub(super) async fn may_fetch(&self, visit: &Visit, resolver: &Resolver, issuer: &Did) -> Result<(), Fault> {
        if !resolver.is_new(issuer).await {
            return Ok(());
        }
        let mut standing = self.fetch.take(&visit.address);
        if standing.refused_for.is_none() {
            let asks_little = self.little.take(&visit.address).refused_for.is_none();
            let common = self.fetches.take();
            if common.refused_for.is_some() {
                standing = if asks_little { self.kept_back.take() } else { common };
            }
        }
        if standing.refused_for.is_some() {
            visit.counted(standing, self.from(visit));
        }
        within("first_fetch", standing)
    }

    /// Whether the address has made this server look at few keys anew, this one included.
    pub(super) fn asks_little(&self, visit: &Visit) -> bool {
        self.refresh.take(&visit.address).refused_for.is_none()
    }

    /// Counts a call that proved nobody, unless it was counted already. Beyond the budget its own error is not told.
    pub(super) fn failed(&self, visit: &Visit) -> Result<(), Fault> {
        if visit.is_counted() {
            return Ok(());
        }
        if let Some(did) = visit.claimed() {
            self.impostor.take(&(visit.address, did.clone()));
        }
        let standing = self.failure.take(&visit.address);
        visit.counted(standing, self.from(visit));
        within(Class::Failure.name(), standing)
    }

    /// Whoever forgot the setting counts all strangers as one. Anybody may send that header, so it is said once.
    fn tell_of_a_proxy(&self) {
        self.told_of_a_proxy.call_once(|| {
            tracing::warn!(
                "a request has X-Forwarded-For, which is ignored: if a proxy stands in front, name it in TRUSTED_PROXIES"
            );
        });
    }

    fn from(&self, visit: &Visit) -> From {
        From::Address(self.redactor.address(&visit.address.text()))
    }
}

/// `limit`: the label of the metric.
fn within(limit: &'static str, standing: Standing) -> Result<(), Fault> {
    match standing.refused_for {
        None => Ok(()),
        Some(wait) => {
            metrics::counter!(metric_name::RATE_REFUSALS, "limit" => limit).increment(1);
            Err(Fault::RateLimited { retry_after_s: visit::whole_seconds(wait) })
        }
    }
}
