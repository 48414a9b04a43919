//! `/metrics`, on a port of its own, because the page is not public.
//!
//! Invariant: however often clients request the page, the server measures the database at most once in five seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::listen;
use crate::storage::Storage;
use crate::telemetry::Metrics;
use crate::worker::Workers;

/// Interval between two measurements of the database.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
/// Time limit of a measurement: the page appears without an answer of the database, too.
const MEASURING: Duration = Duration::from_secs(2);
/// Connections of all scrapers, and of one address.
const CONNECTIONS: usize = 64;
const CONNECTIONS_PER_ADDRESS: usize = 16;

/// Serves the page within the listener's time limits, until `end`.
pub(super) fn serve(
    listen: SocketAddr,
    limits: listen::Limits,
    storage: Storage,
    workers: &Workers,
) -> anyhow::Result<SocketAddr> {
    let metrics = Metrics::install()?;
    let listener = listen::bind(listen).with_context(|| {
        format!("cannot listen on {listen}. Fix: set METRICS_PORT (or METRICS_HOST) to a free one, or to 0 for none")
    })?;
    let address = listener.local_addr()?;
    let measured = Arc::new(Measured { storage, at: Mutex::new(None) });
    let page = axum::routing::get(move || {
        let (measured, metrics) = (Arc::clone(&measured), metrics.clone());
        async move {
            measured.lately().await;
            metrics.render()
        }
    });
    let router = axum::Router::new().route("/metrics", page);
    let limits =
        listen::Limits { connections: CONNECTIONS, connections_per_address: CONNECTIONS_PER_ADDRESS, ..limits };
    let serve =
        listen::serve(listen::Listening { listener, router, limits, proxies: Vec::new() }, workers.stop().clone());
    workers.tasks().spawn(serve);
    Ok(address)
}

struct Measured {
    storage: Storage,
    /// When the last measurement began.
    at: Mutex<Option<Instant>>,
}

impl Measured {
    /// Measures the database, unless a recent measurement exists. Concurrent requests wait for one measurement.
    async fn lately(&self) {
        let mut at = self.at.lock().await;
        if at.is_none_or(|at| at.elapsed() >= MEASURED_EVERY) {
            *at = Some(Instant::now());
            if tokio::time::timeout(MEASURING, self.storage.measure()).await.is_err() {
                tracing::debug!("the database did not answer in time to be measured");
            }
        }
    }
}
