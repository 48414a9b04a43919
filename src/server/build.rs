//! From settings to services.

use std::path::Path;
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
    Authorities, Guard, Guarded, KeysError, Network, ReplayMemory, Resolver, Rules, ServerKeys, SharedSecret, Verifier,
};
use crate::limit::{CpuGate, InstanceCount, LimitScope, entry_weight};
use crate::log::{self, ForeignDatabase, Log, WriterSettings};
use crate::quota::{self, ConvoQuota, Quotas, Summed};
use crate::storage::embedded::{Cluster, DATABASE, EmbeddedError, Options, running_url};
use crate::storage::{self, Storage, refuse_unsafe};
use crate::telemetry::{Redactor, causes};
use crate::types::Clock;
use crate::worker::{WorkerKind, Workers};
use crate::xrpc::{DeviceLookups, Limits, ReadPositions, ServiceParts, Services};

/// Epochs back from which an application message is accepted: what MLS clients keep keys for.
const PAST_EPOCHS: u64 = 5;
/// Bytes of the cache of conversations' immutable facts.
const GROUP_CACHE_BYTES: u64 = 32 << 20;
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
    let pooled = settings.direct_url.as_ref().and(settings.url.as_ref());
    let (url, cluster) = match settings.direct_url.as_ref().or(settings.url.as_ref()) {
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
    let pooled = pooled.map(ExposeSecret::expose_secret);
    let storage = Storage::connect_by(&url, pooled, settings.pool).await.map_err(|error| unreachable(&url, &error))?;
    storage.migrate().await.context("cannot bring the database's schema up to date")?;
    if let Some(found) = refuse_unsafe(&storage).await? {
        if config.is_production() {
            bail!(found);
        }
        tracing::warn!("{found}");
    }
    Ok(Database { storage, cluster })
}

/// Names the unreachable Postgres, the cause and the fix, without the URL's password.
fn unreachable(url: &str, error: &storage::Error) -> anyhow::Error {
    let why = causes(error);
    let place = url::Url::parse(url).map_or_else(
        |_| "DATABASE_URL".to_owned(),
        |url| {
            let socket = url.query_pairs().find(|(name, _)| name == "host").map(|(_, folder)| folder.into_owned());
            let host = socket.unwrap_or_else(|| url.host_str().unwrap_or("localhost").to_owned());
            let database = url.path().trim_start_matches('/');
            format!("{host}:{}, database {database}", url.port().unwrap_or(5432))
        },
    );
    let fix = if why.contains("Fix: ") {
        String::new()
    } else if why.contains("unsupported startup parameter") {
        ". Fix: DATABASE_URL leads through a pooler: let it name Postgres itself, or set DATABASE_DIRECT_URL to Postgres \
         itself"
            .to_owned()
    } else if why.contains("certificate") {
        ". Fix: name the authority of its certificate by sslrootcert=/path/to/authority.pem in DATABASE_URL, or add it to \
         this machine's store"
            .to_owned()
    } else {
        ". Fix: check DATABASE_URL, or unset it for a private Postgres".to_owned()
    };
    anyhow::anyhow!("cannot use the Postgres at {place}: {why}{fix}")
}

/// Binds the database to this server's name. In development, where the name follows from the port, the server keeps the
/// name of the first start.
pub(super) async fn keep_name(mut config: Config, storage: &Storage) -> anyhow::Result<Config> {
    let configured = &config.identity.service_did;
    let stored = log::server_of(storage, configured).await?;
    if stored == *configured {
        return Ok(config);
    }
    let foreign = ForeignDatabase { stored, configured: configured.clone() };
    if config.is_production() {
        bail!(foreign);
    }
    tracing::warn!("{foreign}. This server goes on as {}", foreign.stored);
    config.identity.service_did = foreign.stored;
    Ok(config)
}

/// Opens the database for a command that may run beside the server, whose private Postgres it then uses.
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
    instances: &InstanceCount,
    workers: &Workers,
) -> anyhow::Result<Services> {
    let scope = LimitScope { clock: clock.clone(), instances: instances.clone() };
    let (identity, cpu) = (&config.identity, CpuGate::default());
    let Outbound { guarded, peers, resolver, authorities } = outbound(&config, &clock)?;
    let resolver = Arc::new(resolver);

    let floor_s = i64::try_from(identity.jti_ttl.as_secs()).unwrap_or(i64::MAX);
    let (replay, batcher) = ReplayMemory::shared(clock.clone(), floor_s);
    workers.spawn(WorkerKind::ReplayMemory, batcher.run(storage.pool().clone()));
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
        scope: scope.clone(),
        resolver: Arc::clone(&resolver),
        guarded,
        client: peers,
        replay,
        cpu: cpu.clone(),
    }));
    federation.publish_keys().await?;
    let convo_quota = ConvoQuota::of(&config.quotas);
    let settings = WriterSettings { queue_items: config.log.writer_queue, past_epochs: PAST_EPOCHS, convo_quota };
    let log = Log::start(storage.clone(), did, clock.clone(), settings, &config.log, workers).await?;
    let timing = Timing::with_recovery_wait(config.federation.recovery_wait);
    let replicas = Replicas::start(log.clone(), Arc::clone(&federation), timing, workers);
    let unsaid = config.identity.invitations;
    let joining = Joining::start(log.clone(), Arc::clone(&federation), replicas.clone(), unsaid, workers);
    let redactor = Redactor::new(config.telemetry.hash_key.as_ref());
    let upstream = config.http.upstream.clone().map(|base| Upstream::new(base, &authorities)).transpose()?;
    let quotas = Quotas::new(storage.clone(), config.quotas);
    for (kind, summed) in [(WorkerKind::CallerQuotas, Summed::Callers), (WorkerKind::StaleQuotas, Summed::Stale)] {
        workers.spawn_beating(kind, |beat| {
            quota::run(quotas.clone(), summed, clock.clone(), workers.stop().clone(), beat)
        });
    }
    let limits = Limits::new(&config.limits, &config.http, redactor.clone(), &scope);
    Ok(Services::from(ServiceParts {
        config: Arc::new(config),
        devices: DeviceLookups::new(storage.clone()),
        read_positions: ReadPositions::new(storage.clone()),
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
        groups: Cache::builder().max_capacity(GROUP_CACHE_BYTES).weigher(entry_weight).build(),
        cpu,
        draining: CancellationToken::new(),
        stopping: CancellationToken::new(),
        sockets: TaskTracker::new(),
    }))
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
        lookups: config.limits.lookups,
    }
}

/// The services that a command needs to call other servers as this server does.
pub struct Beside {
    pub federation: Federation,
    pub guarded: Arc<Guarded>,
    /// The ids of the keys that this server signs with.
    pub key_ids: Vec<String>,
}

/// For a command that runs beside the server. It makes no keys.
pub fn federation_beside(config: &Config, storage: Storage, clock: &Clock) -> anyhow::Result<Beside> {
    let dir = &config.identity.keys_dir;
    let fix = "Fix: run it where the server runs, with its settings";
    let keys = ServerKeys::load(dir).with_context(|| format!("KEYS_DIR {}. {fix}", dir.display()))?;
    let key_ids = vec![keys.peer_id(), keys.checkpoint_id()];
    let Outbound { guarded, peers, resolver, .. } = outbound(config, clock)?;
    let federation = Federation::new(federation::Parts {
        settings: federation_settings(config),
        keys: Arc::new(keys),
        storage,
        scope: LimitScope::of_process(clock),
        resolver: Arc::new(resolver),
        guarded: Arc::clone(&guarded),
        client: peers,
        replay: ReplayMemory::in_process(),
        cpu: CpuGate::default(),
    });
    Ok(Beside { federation, guarded, key_ids })
}

/// The clients, and the resolver, for addresses that strangers choose.
pub struct Outbound {
    pub guarded: Arc<Guarded>,
    /// For calls to peers.
    pub peers: Guarded,
    pub resolver: Resolver,
    /// The authorities that every outbound client trusts besides the system's.
    pub authorities: Authorities,
}

/// Reads the certificates of `OUTBOUND_CA`.
pub fn authorities(outbound_ca: Option<&Path>) -> anyhow::Result<Authorities> {
    let Some(path) = outbound_ca else { return Ok(Authorities::default()) };
    let pem = std::fs::read(path).with_context(|| {
        format!("cannot read OUTBOUND_CA {}. Fix: set it to a readable PEM file, or unset it", path.display())
    })?;
    Authorities::from_pem(&pem).context("OUTBOUND_CA holds no certificate. Fix: set it to a PEM file with some")
}

pub fn outbound(config: &Config, clock: &Clock) -> anyhow::Result<Outbound> {
    let identity = &config.identity;
    let authorities = authorities(identity.outbound_ca.as_deref())?;
    let guard = Guard::new(identity.outbound_allow.clone(), !config.is_production())?;
    let guarded = Arc::new(Guarded::new(guard.clone(), &authorities)?);
    let peers = Guarded::for_peers(guard, &authorities)?;
    let network = Network::new(identity.plc_url.as_str(), &authorities, Arc::clone(&guarded))?;
    Ok(Outbound { guarded, peers, resolver: Resolver::new(network, clock.clone()), authorities })
}

/// The service keys of `KEYS_DIR`. Development makes them at first start; production never does by itself.
fn server_keys(config: &Config) -> anyhow::Result<ServerKeys> {
    let dir = &config.identity.keys_dir;
    match ServerKeys::load(dir) {
        Ok(keys) => Ok(keys),
        // Development creates missing keys.
        Err(KeysError::Absent { .. }) if !config.is_production() => Ok(ServerKeys::generate(dir)?),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_authority_is_named_with_its_setting() {
        let unknown = std::io::Error::other("invalid peer certificate: UnknownIssuer");
        let error = storage::Error::Unavailable(sqlx::Error::Tls(Box::new(unknown)));
        let told = unreachable("postgres://rookery:secret@db.example.com/rookery", &error).to_string();
        assert!(told.contains("db.example.com:5432") && told.contains("sslrootcert="), "{told}");
        assert!(!told.contains("secret"), "{told}");
    }
}
