use std::ops::Deref;
use std::sync::Arc;

use moka::sync::Cache;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{DeviceLookups, Limits, ReadPositions};
use crate::config::Config;
use crate::federation::Federation;
use crate::federation::joining::Joining;
use crate::federation::replica::Replicas;
use crate::identity::http::Upstream;
use crate::identity::{Resolver, ServerKeys, Verifier};
use crate::limit::{CpuGate, Weigh};
use crate::log::Log;
use crate::quota::Quotas;
use crate::storage::Storage;
use crate::telemetry::Redactor;
use crate::types::Clock;

/// The immutable facts of a conversation, from its first entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub group_id: Vec<u8>,
    pub cipher_suite: u16,
    /// Devices that one account may have in it.
    pub max_devices: usize,
}

impl Weigh for Group {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.group_id.len()
    }
}

/// The services that a method may use. Cheap to clone: all clones share one value.
#[derive(Clone)]
pub struct Services(Arc<ServiceParts>);

impl Deref for Services {
    type Target = ServiceParts;

    fn deref(&self) -> &ServiceParts {
        &self.0
    }
}

impl From<ServiceParts> for Services {
    fn from(parts: ServiceParts) -> Self {
        Self(Arc::new(parts))
    }
}

/// The services, one by one.
pub struct ServiceParts {
    pub config: Arc<Config>,
    pub storage: Storage,
    pub log: Log,
    pub resolver: Arc<Resolver>,
    pub verifier: Arc<Verifier>,
    pub keys: Arc<ServerKeys>,
    /// Other servers.
    pub federation: Arc<Federation>,
    /// Streams across servers.
    pub replicas: Replicas,
    /// How accounts come to them.
    pub joining: Joining,
    pub redactor: Redactor,
    pub limits: Arc<Limits>,
    /// Looks up the devices that call.
    pub devices: DeviceLookups,
    /// Moves the read positions of accounts.
    pub read_positions: ReadPositions,
    pub quotas: Quotas,
    /// Where methods go that this server does not have; development alone.
    pub upstream: Option<Upstream>,
    pub clock: Clock,
    /// Runs CPU-bound work: signatures of trees, chains, decoding.
    pub cpu: CpuGate,
    /// The immutable facts of each conversation, by its stream's row. Bounded in bytes.
    pub groups: Cache<i64, Arc<Group>>,
    /// Cancelled at SIGTERM: the server is no longer ready, and still serves for the drain time.
    pub draining: CancellationToken,
    /// Cancelled after the drain time: sockets close, and the server begins nothing new.
    pub stopping: CancellationToken,
    /// Open sockets, so that a stopping server can wait for their close frames.
    pub sockets: TaskTracker,
}
