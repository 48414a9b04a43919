use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::identity::Verifier;
use crate::log::Log;
use crate::storage::Storage;
use crate::telemetry::Redactor;
use crate::types::Clock;

/// What a method may reach. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    pub config: Arc<Config>,
    pub storage: Storage,
    pub log: Log,
    pub verifier: Arc<Verifier>,
    pub redactor: Redactor,
    pub clock: Clock,
    /// Cancelled when the server begins to stop: sockets close, nothing new begins.
    pub stopping: CancellationToken,
}
