//! The limits of all requests.
//!
//! Invariants: every request counts once, against the account that it proves or, unauthenticated, against the address
//! that it came from; a request counts against an account only after a token of that account was verified; no account
//! or address spends another account's budget. Decision 0016 has the reasons.

mod address;
mod body;
mod class;
mod guarded;
mod in_flight;
mod layer;
mod receive;
mod visit;

use std::sync::{Arc, Once};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use self::guarded::guarded;
use self::in_flight::{CallSlots, CallsInFlight};
use super::Fault;
use crate::identity::Resolver;
use crate::lexicon::Kind;
use crate::limit::{Budgets, ByteBudget, FairBudget, KeyedSlots, LimitScope, OpenConnection, Standing, entry_weight};
use crate::telemetry::{Redactor, metric_name};
use crate::types::Did;
use crate::{config, federation};

pub use address::Address;
pub use body::body_bytes;
pub use class::Class;
pub use in_flight::CallOwner;
pub use layer::{Doors, around};
pub use receive::{BodyOwner, BodyRefused};
pub use visit::{From, Visit};

/// The connection of a request, stored in the request's extensions.
pub type ClientConnection = Arc<OpenConnection<Address>>;

/// Time that the server remembers an account after it last authenticated it.
const REMEMBERED: Duration = Duration::from_hours(24);
/// Bytes of remembered accounts.
const REMEMBERED_BYTES: u64 = 32 << 20;
/// Look-ups of possibly rotated keys that one address may cause while others exhaust the common budget. The compiler
/// evaluates that 6 is not 0.
const REFRESH: config::Rate =
    config::Rate { quantity: std::num::NonZeroU32::new(6).unwrap(), period: Duration::from_mins(1) };

/// All budgets that this instance keeps: its part of those of the server.
pub struct Limits {
    accounts: Accounts,
    open: Budgets<Address>,
    /// Failed authentications without an issuer, and issuers that begin to fail.
    failure: Budgets<Address>,
    /// Failed authentications in the name of one issuer, from one address.
    failing: Budgets<(Address, Did)>,
    /// Calls of all accounts below one registrable domain, whose names cost nothing.
    domain: Budgets<Arc<str>>,
    /// Calls of all young accounts at one address.
    young: Budgets<Address>,
    fetch: FairBudget<Address>,
    registration: FairBudget<Address>,
    domain_registration: Budgets<Arc<str>>,
    refresh: Budgets<Address>,
    remembered: Cache<Did, ()>,
    calls: CallsInFlight,
    bodies: Arc<ByteBudget<BodyOwner>>,
    /// Requests and sockets of one address through a trusted proxy.
    proxied: KeyedSlots<Address>,
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
    pub fn new(limits: &config::Limits, http: &config::Http, redactor: Redactor, scope: &LimitScope) -> Self {
        let (accounts, addresses, all) = (&limits.accounts, &limits.addresses, &limits.all);
        let largest_body = body::greatest_bytes(&http.bodies);
        let remembered = Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(entry_weight);
        let remembered = remembered.eviction_policy(EvictionPolicy::lru());
        Self {
            accounts: Accounts {
                read: Budgets::new(accounts.read, scope),
                write: Budgets::new(accounts.write, scope),
                message: Budgets::new(accounts.message, scope),
                key_package: Budgets::new(accounts.key_package, scope),
                account: Budgets::new(accounts.account, scope),
                subscribe: Budgets::new(accounts.subscribe, scope),
            },
            open: Budgets::new(addresses.open, scope),
            failure: Budgets::new(addresses.failure, scope),
            failing: Budgets::new(addresses.failing_issuer, scope),
            domain: Budgets::new(limits.domains.calls, scope),
            young: Budgets::new(addresses.young_accounts, scope),
            fetch: FairBudget::new(addresses.first_fetch, all.first_fetch, scope),
            registration: FairBudget::new(addresses.registration, all.registration, scope),
            domain_registration: Budgets::new(limits.domains.registration, scope),
            refresh: Budgets::new(REFRESH, scope),
            remembered: remembered.time_to_idle(REMEMBERED).build(),
            calls: CallsInFlight::new(http.reads_in_flight, http.writes_in_flight, &scope.instances),
            bodies: Arc::new(ByteBudget::new(http.bodies.held_bytes, largest_body)),
            proxied: KeyedSlots::new(http.connections_per_address),
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
        let mut standing = budget.take(did);
        let mut limit = class.name();
        if standing.refused_for.is_none() && receive::is_free(did) {
            let of_domain = self.domain.take(&federation::domain(did).into());
            if of_domain.refused_for.is_some() {
                (standing, limit) = (of_domain, "domain");
            }
        }
        visit.counted(standing, From::Account(self.redactor.did(did)));
        within(limit, standing)?;
        visit.proves(BodyOwner::of_account(did));
        Ok(())
    }

    /// Counts a call of a young account against its address.
    pub(super) fn young(&self, visit: &Visit) -> Result<(), Fault> {
        let standing = self.young.take(&visit.address);
        if standing.refused_for.is_some() {
            visit.counted(standing, self.from(visit));
        }
        within("young_accounts", standing)
    }

    /// Counts work of an account beyond its one call, in calls of that class. Work beyond the whole budget counts as
    /// the whole budget: the account may do it once in a period.
    pub fn work(&self, class: Class, did: &Did, calls: u32) -> Result<(), Fault> {
        let Some(budget) = self.of_account(class) else {
            return Err(Fault::internal("work is counted in a class of accounts"));
        };
        let Some(calls) = std::num::NonZeroU32::new(calls) else { return Ok(()) };
        within("work", budget.take_many(did, calls.min(budget.whole())))
    }

    /// Counts a request that needs no authentication. A probe is never refused.
    fn open(&self, visit: &Visit, class: Class) -> Result<(), Fault> {
        if class == Class::Probe {
            return Ok(());
        }
        let standing = self.open.take(&visit.address);
        visit.counted(standing, self.from(visit));
        within(class.name(), standing)
    }

    /// Checked before the server computes or fetches anything for a token: whether it verifies tokens of this issuer
    /// from this address. It refuses an issuer that failed too often at this address; at an address where too many
    /// issuers failed, it accepts only accounts that it authenticated lately.
    pub(super) fn may_prove(&self, visit: &Visit, issuer: Option<&Did>) -> Result<(), Fault> {
        if let Some(did) = issuer {
            visit.claims(did);
        }
        let failing = issuer.and_then(|did| self.failing.spent(&(visit.address, did.clone())));
        let spent = failing.or_else(|| {
            let known = issuer.is_some_and(|did| self.remembered.contains_key(did));
            self.failure.spent(&visit.address).filter(|_| !known)
        });
        spent.map_or(Ok(()), |standing| {
            visit.counted(standing, self.from(visit));
            within(Class::Failure.name(), standing)
        })
    }

    /// Checked before the server fetches the DID document of this issuer: whether the document is new to it, and the
    /// address may cause further first fetches.
    pub(super) async fn may_fetch(&self, visit: &Visit, resolver: &Resolver, issuer: &Did) -> Result<(), Fault> {
        if !resolver.is_new(issuer).await {
            return Ok(());
        }
        let standing = self.fetch.take(&visit.address);
        if standing.refused_for.is_some() {
            visit.counted(standing, self.from(visit));
        }
        within("first_fetch", standing)
    }

    /// Checked before the server creates an account: whether its address, and its registrable domain, may register
    /// another.
    pub fn may_register(&self, address: Address, did: &Did) -> Result<(), Fault> {
        if receive::is_free(did) {
            within("registration", self.domain_registration.take(&federation::domain(did).into()))?;
        }
        within("registration", self.registration.take(&address))
    }

    /// Whether the address has caused few look-ups of rotated keys, this one included.
    pub(super) fn asks_little(&self, visit: &Visit) -> bool {
        self.refresh.take(&visit.address).refused_for.is_none()
    }

    /// Counts a failed authentication once: against its issuer at this address, and an issuer that begins to fail
    /// against the address. Beyond the budget the answer hides the reason of the failure.
    pub(super) fn failed(&self, visit: &Visit) -> Result<(), Fault> {
        if visit.is_counted() {
            return Ok(());
        }
        let of_issuer = visit.claimed().map(|did| self.failing.take(&(visit.address, did.clone())));
        let standing = match of_issuer {
            Some(standing) if standing.remaining + standing.cost < standing.rate.quantity.get() => standing,
            // The first failure in a while.
            Some(standing) => {
                let of_address = self.failure.take(&visit.address);
                if of_address.refused_for.is_some() { of_address } else { standing }
            }
            None => self.failure.take(&visit.address),
        };
        visit.counted(standing, self.from(visit));
        within(Class::Failure.name(), standing)
    }

    /// Takes the slots of a further call in flight.
    pub(super) async fn enter(&self, visit: &Visit, owner: CallOwner, kind: Kind) -> Result<CallSlots, Fault> {
        let slots = self.calls.enter(visit.address, owner, kind).await;
        slots.ok_or_else(|| {
            metrics::counter!(metric_name::RATE_REFUSALS, "limit" => "in_flight").increment(1);
            Fault::TooManyInFlight
        })
    }

    /// Without the setting all clients count as one address. Any client may send that header, so the warning comes
    /// once.
    fn tell_of_a_proxy(&self) {
        self.told_of_a_proxy.call_once(|| {
            tracing::warn!(
                "a request has X-Forwarded-For, which is ignored: if a proxy stands in front, name it in TRUSTED_PROXIES"
            );
        });
    }

    /// The keyed hash of an address, as rows and logs show it.
    pub fn address_name(&self, address: Address) -> String {
        self.redactor.address(&address.text())
    }

    /// Whether this address is a trusted proxy.
    pub fn is_proxy(&self, address: std::net::IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|range| range.contains(&address))
    }

    fn from(&self, visit: &Visit) -> From {
        From::Address(self.address_name(visit.address))
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
