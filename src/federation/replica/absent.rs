//! The followers that are away, as an instance without a replication scheduler knows them.
//!
//! Invariant: a follower that gives a sign of life on any instance is tried again at once.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Replicas, store};

/// Interval between two reads of the absent followers.
const EVERY: Duration = Duration::from_secs(10);

pub(super) async fn run(replicas: Replicas, stop: CancellationToken) {
    loop {
        match store::unreached_servers(replicas.storage().pool()).await {
            Ok(servers) => {
                let servers: HashSet<String> = servers.into_iter().collect();
                *replicas.inner.away.lock().unwrap_or_else(PoisonError::into_inner) = servers;
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to read the absent followers");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}
