//! Other servers: who they are, what they may, and calls to them (docs/FEDERATION.md).
//!
//! Invariants: a peer can do no more than the accounts it speaks for, and only for accounts whose DID names it; whatever
//! must convince a third party is a signed statement.

mod accounts;
mod admit;
mod client;
pub mod joining;
mod lookups;
mod own_keys;
mod peers;
mod refused;
pub mod replica;
mod signature;
mod statements;
mod version_support;

pub use accounts::{AccountHome, Age, HomeUnverified};
pub use admit::Admitted;
pub use client::{Actor, CallError, MAX_ANSWER_BYTES, PeerRequest, refused as refused_answer};
pub use lookups::TooManyLookups;
pub use own_keys::OwnKey;
pub use peers::{Counted, KeyState, KnownPeer, Policy, Purpose, Quota, ServerDocument, domain, endpoint, roster};
pub use refused::PeerRefused;
pub use signature::{ACTOR, AUDIENCE, DEVICE, INCARNATION, Outgoing, Presented, TAG, sign};
pub use statements::StatementRefused;
pub use version_support::{PROTOCOL_VERSION, VERSION, own_support, support_digest};

use std::collections::BTreeSet;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use moka::sync::{Cache, CacheBuilder};
use tokio::sync::broadcast;

use crate::config::{LookupRates, Mode, PeerRates, Rate};
use crate::identity::{Guarded, ReplayMemory, Resolver, ServerKeys};
use crate::limit::{Budget, Budgets, CpuGate, LimitScope, Weigh, entry_weight};
use crate::storage::{self, Storage};
use crate::types::{Clock, Did};

/// Bytes of each cache of peers and accounts.
const REMEMBERED_BYTES: u64 = 4 << 20;
/// Bytes of the cache of which server acts for which account.
const PAIRS_BYTES: u64 = 32 << 20;
/// New incarnations of peers' databases that wait for their subscribers.
const RISES: usize = 64;

/// The operator's policy.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// Allowed beside those that `rookery peer allow` named.
    pub allowed: BTreeSet<Did>,
    /// For how long a key that no earlier key endorsed waits.
    pub key_hold: TimeDelta,
    pub server: Did,
    /// The public origin: scheme and host, without a path.
    pub origin: String,
    /// Loopback is open.
    pub development: bool,
    /// The quotas of a domain's servers.
    pub rates: PeerRates,
    /// Budgets of look-ups that calls of accounts cause.
    pub lookups: LookupRates,
}

/// The parts that [`Federation`] is made of.
pub struct Parts {
    pub settings: Settings,
    pub keys: Arc<ServerKeys>,
    pub storage: Storage,
    pub scope: LimitScope,
    pub resolver: Arc<Resolver>,
    /// For PDSes.
    pub guarded: Arc<Guarded>,
    /// For peers.
    pub client: Guarded,
    pub replay: ReplayMemory,
    /// Runs the CPU-bound work of deliveries.
    pub cpu: CpuGate,
}

/// This server among others.
pub struct Federation {
    settings: Settings,
    keys: Arc<ServerKeys>,
    storage: Storage,
    clock: Clock,
    resolver: Arc<Resolver>,
    guarded: Arc<Guarded>,
    client: Guarded,
    replay: ReplayMemory,
    cpu: CpuGate,
    quotas: peers::Quotas,
    labels: peers::Labels,
    breakers: Cache<Did, Arc<client::Breaker>>,
    not_servers: Cache<Did, &'static str>,
    records: Cache<Did, accounts::Recorded>,
    incarnations: Cache<Did, i64>,
    discoveries: Budgets<Did>,
    discovering: Cache<Did, Arc<tokio::sync::Mutex<()>>>,
    refetches: Budgets<Did>,
    all_lookups: Budget,
    lookups: lookups::Lookups,
    rises: broadcast::Sender<Did>,
    /// Accounts, with the server that was found to speak for them.
    pairs: Cache<(Did, Did), ()>,
}

const fn rate(quantity: NonZeroU32, period: Duration) -> Rate {
    Rate { quantity, period }
}

/// A cache bounded by `max_bytes`.
fn remembered<K, V>(max_bytes: u64) -> CacheBuilder<K, V, Cache<K, V>>
where
    K: Weigh + Hash + Eq + Send + Sync + 'static,
    V: Weigh + Clone + Send + Sync + 'static,
{
    Cache::builder().max_capacity(max_bytes).weigher(entry_weight)
}

impl Federation {
    pub fn new(parts: Parts) -> Self {
        let Parts { settings, keys, storage, scope, resolver, guarded, client, replay, cpu } = parts;
        let clock = scope.clock.clone();
        // One server once in 5 minutes, all together ten a second.
        let lookups = || Budgets::new(rate(NonZeroU32::MIN, Duration::from_mins(5)), &scope);
        let all_lookups = Budget::new(rate(NonZeroU32::MIN.saturating_add(9), Duration::from_secs(1)), &scope);
        Self {
            quotas: peers::Quotas::new(settings.rates, &scope),
            labels: peers::Labels::default(),
            breakers: remembered(REMEMBERED_BYTES).build(),
            not_servers: remembered(REMEMBERED_BYTES).time_to_live(peers::NOT_A_SERVER).build(),
            records: remembered(REMEMBERED_BYTES).build(),
            incarnations: remembered(REMEMBERED_BYTES).build(),
            pairs: remembered(PAIRS_BYTES).build(),
            discoveries: lookups(),
            discovering: remembered(REMEMBERED_BYTES).build(),
            lookups: lookups::Lookups::new(settings.lookups, &scope),
            refetches: lookups(),
            all_lookups,
            rises: broadcast::channel(RISES).0,
            settings,
            keys,
            storage,
            clock,
            resolver,
            guarded,
            client,
            replay,
            cpu,
        }
    }

    pub fn is_on(&self) -> bool {
        self.settings.mode != Mode::Off
    }

    /// Runs CPU-bound work.
    pub(in crate::federation) fn cpu(&self) -> &CpuGate {
        &self.cpu
    }

    pub(in crate::federation) fn pool(&self) -> &storage::PgPool {
        self.storage.pool()
    }

    /// This server.
    pub fn server(&self) -> &Did {
        &self.settings.server
    }

    /// Peers whose database went back in time, as their answers show it.
    pub fn rises(&self) -> broadcast::Receiver<Did> {
        self.rises.subscribe()
    }

    /// Counts something that a peer asks for, or the refusal.
    pub fn take(&self, counted: &Counted, quota: Quota, quantity: u64) -> Result<(), PeerRefused> {
        self.quotas.take(counted, quota, quantity)
    }
}
