//! Puts the server together from its configuration, serves it, and takes it down again.
//!
//! Invariants: nothing listens before the database is migrated and the log stands; a stopping server first says that it
//! is not ready, then lets open requests end, then drains the writer, and only then lets go of the database.

mod build;
mod health;
mod home_page;
mod instances;
mod listen;
mod metrics_page;
#[cfg(feature = "next-version")]
mod next_version;
mod routes;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::storage::DiskWatch;
use crate::storage::embedded::Cluster;
use crate::types::Clock;
use crate::worker::{WorkerKind, Workers};
use crate::xrpc::{Services, watch_listeners};

use instances::InstanceRegister;

pub use build::{
    Beside, Database, Outbound, authorities, federation_beside, open_database, open_database_beside, outbound,
};

/// Time in which workers must end after the last request.
const WORKERS_END: Duration = Duration::from_secs(5);

/// A running server.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    services: Services,
    paths: Vec<String>,
    listener: JoinHandle<()>,
    /// The workers, which end after the listeners.
    workers: Workers,
    register: InstanceRegister,
    cluster: Option<Cluster>,
}

impl Server {
    /// Starts everything and begins to listen.
    pub async fn start(config: Config, clock: Clock) -> anyhow::Result<Self> {
        // Boxed: the future of a start is too large to be part of a caller's future.
        Box::pin(Self::start_parts(config, clock)).await
    }

    async fn start_parts(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let workers = Workers::new(config.role);
        // A failed start leaves no worker behind.
        let ends_workers = workers.stop().clone().drop_guard();
        let listen = config.http.listen;
        let metrics_listen = config.http.metrics;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }

        let Database { storage, cluster } = build::open_database(&config).await?;
        let config = build::keep_name(config, &storage).await?;
        let watch = DiskWatch {
            folder: cluster.as_ref().map(|_| config.database.data_dir.clone()),
            least_free: config.database.least_free,
        };
        workers.spawn_beating(WorkerKind::DiskWatch, |beat| {
            storage.clone().watch_disk(watch, workers.stop().clone(), beat)
        });
        let register = InstanceRegister::enter(storage.clone(), config.role).await?;
        workers.spawn_beating(WorkerKind::InstanceRegister, |beat| register.clone().run(workers.stop().clone(), beat));
        let services = build::services(config, clock, storage, register.count(), &workers).await?;
        let routes::Served { router, paths } = routes::serve(&services);

        let listener = listen::bind(listen).with_context(|| {
            format!("cannot listen on {listen}. Fix: set SERVER_PORT (or SERVER_HOST) to a free one")
        })?;
        let address = listener.local_addr()?;
        let limits = limits_of_connections(&services);
        let metrics_address = match metrics_listen {
            Some(listen) => Some(metrics_page::serve(listen, limits, services.storage.clone(), &workers)?),
            None => None,
        };
        let stopping = services.stopping.clone();
        let proxies = services.config.limits.trusted_proxies.clone();
        let serve = listen::serve(listen::Listening { listener, router, limits, proxies }, stopping);
        let identity = &services.config.identity;
        let public_url = identity.public_url.origin().ascii_serialization();
        tracing::info!(%address, service = %identity.service_did, public_url, "listening");
        let watching = watch_listeners(services.clone(), workers.stop().clone());
        workers.spawn(WorkerKind::ListenerWatch, watching);
        let listener = tokio::spawn(serve);
        ends_workers.disarm();
        Ok(Self { address, metrics_address, services, paths, listener, workers, register, cluster })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Every path that is served, each method by its own. What is not listed is answered by what is below `/xrpc/` and by
    /// the page for what is not there.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Waits until the server cannot go on: the private Postgres ended by itself, the database went back in time, so
    /// that the server's caches may be wrong, or a worker ended or hangs.
    pub async fn failed(&self) -> anyhow::Error {
        let ended = async {
            match &self.cluster {
                Some(cluster) => cluster.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = ended => {
                anyhow::anyhow!("the private Postgres ended by itself ({status}); its log is in DATA_DIR/postgres.log")
            }
            () = self.services.storage.uprooted() => anyhow::anyhow!(
                "the database was restored, failed over, or went back in time. Fix: start the server again; it goes on \
                 from what is there"
            ),
            failure = self.workers.failed() => failure.into(),
        }
    }

    /// Reports that the server is not ready, and still serves for the drain time, in which load balancers choose other
    /// instances.
    pub async fn drain(&self) {
        self.services.draining.cancel();
        tokio::time::sleep(self.services.config.http.drain).await;
    }

    /// Stops in good order; open requests and sockets get the configured grace.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Self { services, mut listener, workers, register, cluster, .. } = self;
        services.draining.cancel();
        services.stopping.cancel();
        services.sockets.close();
        let grace = services.config.http.shutdown_grace;
        let drained = async {
            services.sockets.wait().await;
            (&mut listener).await
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(grace_ms = grace.as_millis(), "requests were still open when the grace ended");
            listener.abort();
        }

        workers.stop().cancel();
        let storage = services.storage.clone();
        // The last handles of queues go with the services: workers that read them end.
        drop(services);
        if tokio::time::timeout(WORKERS_END, workers.end()).await.is_err() {
            tracing::warn!("a worker did not end in time");
        }
        register.leave().await;
        storage.close();
        if let Some(cluster) = cluster {
            cluster.stop().await?;
        }
        Ok(())
    }
}

/// The limits on clients' time and connections, from the settings.
fn limits_of_connections(services: &Services) -> listen::Limits {
    let http = &services.config.http;
    let pool = usize::try_from(services.config.database.pool).unwrap_or(usize::MAX);
    listen::Limits {
        header: http.header_timeout,
        send: services.config.streams.send_timeout,
        connections: listen::connections_within(listen::raise_open_files(), pool, http.connections),
        connections_per_address: usize::try_from(http.connections_per_address).unwrap_or(usize::MAX),
    }
}
