//! From settings to services.

use std::sync::Arc;

use anyhow::{Context, bail};
use moka::sync::Cache;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::federation::joining::Joining;
use crate::federation::replica::{Replicas, Timing};
use crate::federation::{self, Federation};
use crate::identity::http::Upstream;
use crate::identity::{
    Guard, Guarded, KeysError, Network, ReplayMemory, Resolver, Rules, ServerKeys, SharedSecret, Verifier,
};
use crate::log::{Log, WriterSettings};
use crate::quota::{self, ConvoQuota, Quotas};
use crate::storage::embedded::{Cluster, DATABASE, EmbeddedError, Options, running_url};
use crate::storage::{Storage, refuse_unsafe};
use crate::telemetry::Redactor;
use crate::types::Clock;
use crate::xrpc::{Limits, Services};

/// Epochs back from which an application message is accepted: what MLS clients keep keys for.
const PAST_EPOCHS: u64 = 5;
/// Conversations whose fixed facts are kept in memory.
const GROUP_CACHE_ENTRIES: u64 = 100_000;
/// Connections beside the pool: the log writer's, the relay's two, a migration's, a person's.
const OTHER_CONNECTIONS: u32 = 8;

/// The database, and the private Postgres that holds it, if there is one.
pub struct Database {
    pub storage: Storage,
    pub cluster: Option<Cluster>,
}

/// Connects to `DATABASE_URL`, or starts the private Postgres; brings the schema up to date.
pub async fn open_database(config: &Config) -> anyhow::Result<Database> {
    let settings = &config.database;
    let (url, cluster) = match &settings.url {
        Some(url) => (url.expose_secret().to_owned(), None),
        None => {
            let options = Options {
                data_dir: settings.data_dir.clone(),
                pg_bin: settings.pg_bin.clone(),
                max_connections: settings.pool + OTHER_CONNECTIONS,
                durable: true,
            };
            let cluster = Cluster::start(options).await?;
            (cluster.url(DATABASE), Some(cluster))
        }
    };
    let storage = Storage::connect(&url, settings.pool)
        .await
        .context("cannot connect to Postgres. Fix: check DATABASE_URL, or unset it for a private Postgres")?;
    storage.migrate().await.context("cannot bring the database's schema up to date")?;
    if let Some(found) = refuse_unsafe(&storage).await? {
        if config.is_production() {
            bail!(found);
        }
        tracing::warn!("{found}");
    }
    Ok(Database { storage, cluster })
}

/// The same for a command that may run beside the server: its private Postgres is then used as it is.
pub async fn open_database_beside(config: &Config) -> anyhow::Result<Database> {
    match open_database(config).await {
        Err(error) if matches!(error.downcast_ref(), Some(EmbeddedError::InUse { .. })) => {
            let url = running_url(&config.database.data_dir, DATABASE)?;
            Ok(Database { storage: Storage::connect(&url, 1).await?, cluster: None })
        }
        opened => opened,
    }
}

/// Everything that a method may reach, with its workers running.
pub(super) async fn services(
    config: Config,
    clock: Clock,
    storage: Storage,
    workers: &TaskTracker,
    end_workers: &CancellationToken,
) -> anyhow::Result<Services> {
    let identity = &config.identity;
    let Outbound { guarded, peers, resolver } = outbound(&config, &clock)?;
    let resolver = Arc::new(resolver);

    let floor_s = i64::try_from(identity.jti_ttl.as_secs()).unwrap_or(i64::MAX);
    let (replay, batcher) = ReplayMemory::shared(clock.clone(), floor_s);
    workers.spawn(batcher.run(storage.pool().clone()));
    let did = identity.service_did.clone();
    let audiences = vec![did.to_string(), format!("{did}#atproto_mls")];
    let rules = Rules { enforce_lxm: identity.enforce_lxm, enforce_jti: identity.enforce_jti };
    let secret = identity.jwt_secret.as_ref().map(SharedSecret::new).transpose()?;
    let verifier =
        Verifier::new(audiences, Arc::clone(&resolver), replay.clone(), clock.clone(), rules).with_secret(secret);

    let keys = Arc::new(server_keys(&config)?);
    let settings = federation_settings(&config);
    let federation = Arc::new(Federation::new(federation::Parts {
        settings,
        keys: Arc::clone(&keys),
        storage: storage.clone(),
        clock: clock.clone(),
        resolver: Arc::clone(&resolver),
        guarded,
        client: peers,
        replay,
    }));
    federation.publish_keys().await?;
    let convo_quota = ConvoQuota::of(&config.quotas);
    let settings = WriterSettings { queue_items: config.log.writer_queue, past_epochs: PAST_EPOCHS, convo_quota };
    let log = Log::start(storage.clone(), did, clock.clone(), settings, &config.log, workers, end_workers).await?;
    let timing = Timing::with_recovery_wait(config.federation.recovery_wait);
    let replicas = Replicas::start(log.clone(), Arc::clone(&federation), timing, workers, end_workers);
    let unsaid = config.identity.invitations;
    let joining = Joining::start(log.clone(), Arc::clone(&federation), replicas.clone(), unsaid, workers, end_workers);
    let redactor = Redactor::new(config.telemetry.hash_key.as_ref());
    let upstream = config.http.upstream.clone().map(Upstream::new).transpose()?;
    let quotas = Quotas::new(storage.clone(), config.quotas);
    workers.spawn(quota::run(quotas.clone(), clock.clone(), end_workers.clone()));
    let limits = Limits::new(&config.limits, redactor.clone(), &clock);
    Ok(Services {
        config: Arc::new(config),
        storage,
        log,
        resolver,
        verifier: Arc::new(verifier),
        keys,
        federation,
        replicas,
        joining,
        redactor,
        limits: Arc::new(limits),
        quotas,
        upstream,
        clock,
        groups: Cache::new(GROUP_CACHE_ENTRIES),
        stopping: CancellationToken::new(),
        sockets: TaskTracker::new(),
    })
}

fn federation_settings(config: &Config) -> federation::Settings {
    let identity = &config.identity;
    federation::Settings {
        mode: config.federation.mode,
        allowed: config.federation.allowed.clone(),
        key_hold: config.federation.key_hold,
        server: identity.service_did.clone(),
        origin: identity.public_url.origin().ascii_serialization(),
        development: !config.is_production(),
        rates: config.federation.rates,
    }
}

/// What a command needs to speak to other servers as this one does.
pub struct Beside {
    pub federation: Federation,
    pub guarded: Arc<Guarded>,
    /// Of the keys that this server signs with.
    pub key_ids: Vec<String>,
}

/// For a command that runs beside the server. It makes no keys.
pub fn federation_beside(config: &Config, storage: Storage, clock: Clock) -> anyhow::Result<Beside> {
    let dir = &config.identity.keys_dir;
    let fix = "Fix: run it where the server runs, with its settings";
    let keys = ServerKeys::load(dir).with_context(|| format!("KEYS_DIR {}. {fix}", dir.display()))?;
    let key_ids = vec![keys.peer_id(), keys.checkpoint_id()];
    let Outbound { guarded, peers, resolver } = outbound(config, &clock)?;
    let federation = Federation::new(federation::Parts {
        settings: federation_settings(config),
        keys: Arc::new(keys),
        storage,
        clock,
        resolver: Arc::new(resolver),
        guarded: Arc::clone(&guarded),
        client: peers,
        replay: ReplayMemory::in_process(),
    });
    Ok(Beside { federation, guarded, key_ids })
}

/// What goes out to addresses that strangers choose.
pub struct Outbound {
    pub guarded: Arc<Guarded>,
    /// For calls to peers.
    pub peers: Guarded,
    pub resolver: Resolver,
}

pub fn outbound(config: &Config, clock: &Clock) -> anyhow::Result<Outbound> {
    let identity = &config.identity;
    let authorities = identity.outbound_ca.as_ref().map(|path| {
        let fix = "Fix: set OUTBOUND_CA to a readable PEM file, or unset it";
        std::fs::read(path).with_context(|| format!("cannot read OUTBOUND_CA {}. {fix}", path.display()))
    });
    let authorities = authorities.transpose()?;
    let guard = Guard::new(identity.outbound_allow.clone(), !config.is_production())?;
    let certificates = "OUTBOUND_CA holds no certificate. Fix: set it to a PEM file with some";
    let guarded = Arc::new(Guarded::new(guard.clone(), authorities.as_deref()).context(certificates)?);
    let peers = Guarded::for_peers(guard, authorities.as_deref()).context(certificates)?;
    let network = Network::new(identity.plc_url.as_str(), Arc::clone(&guarded))?;
    Ok(Outbound { guarded, peers, resolver: Resolver::new(network, clock.clone()) })
}

/// The service keys of `KEYS_DIR`. Development makes them at first start; production never does by itself.
fn server_keys(config: &Config) -> anyhow::Result<ServerKeys> {
    let dir = &config.identity.keys_dir;
    match ServerKeys::load(dir) {
        Ok(keys) => Ok(keys),
        Err(KeysError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            if config.is_production() {
                bail!(
                    "KEYS_DIR {} holds no keys. Fix: run `rookery keygen` once, and keep what it writes",
                    dir.display()
                );
            }
            Ok(ServerKeys::generate(dir)?)
        }
        Err(error) => Err(error.into()),
    }
}
