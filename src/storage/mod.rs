//! Postgres: the pool, the migrations, the unit of work.
//!
//! Invariant: an answer of success is given only after its commit, and no code waits for a second connection while it
//! holds one (a pool of one connection must suffice).
//!
//! Invariant: all connections of a process lead to one cluster and one history of it. After a failover or a restore
//! no connection is made any more: what is kept in memory may be of a future that was lost, so the process ends, and
//! the next one begins with what is there.

mod cluster;
mod error;
mod guard;

pub mod embedded;
mod tx;

pub use cluster::ClusterId;
pub use error::{Error, retrying};
pub use guard::{Unsafe, refuse_unsafe};
pub use tx::Tx;

use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metric_name;

/// Applied at start, under sqlx's advisory lock. Those of a later version may have been applied before: during a roll-out,
/// and after one that was taken back, a server starts on the schema of its successor, which only added to its own.
static MIGRATIONS: Migrator = Migrator { ignore_missing: true, ..sqlx::migrate!() };

/// How long a caller waits for a connection before it is told `Unavailable`.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// A statement that runs longer is cancelled: an open writer holds every reader's fence.
const STATEMENT_TIMEOUT_MS: u32 = 10_000;
const LOCK_TIMEOUT_MS: u32 = 8_000;
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 10_000;

/// A writer that is open for longer is named at each look.
const FENCE_ALARM_S: f64 = 5.0;

/// A backend with an open writing transaction. What it runs is nobody's business.
struct OpenWriter {
    pid: i32,
    application_name: String,
    database: String,
    age_s: f64,
}

impl OpenWriter {
    fn name(&self) {
        tracing::warn!(
            pid = self.pid,
            application_name = self.application_name,
            database = self.database,
            age_s = self.age_s,
            "this open transaction holds back every reader of the log"
        );
    }
}

/// The database of this server.
#[derive(Clone, Debug)]
pub struct Storage {
    pool: PgPool,
    options: PgConnectOptions,
    cluster: ClusterId,
    /// Cancelled when the database turned out to be another one than at the start.
    uprooted: CancellationToken,
}

impl Storage {
    /// Connects with at most `connections` connections.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("rookery")
            .options([
                ("statement_timeout", STATEMENT_TIMEOUT_MS.to_string()),
                ("lock_timeout", LOCK_TIMEOUT_MS.to_string()),
                ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT_MS.to_string()),
                ("jit", "off".to_owned()),
            ])
            .log_statements(tracing::log::LevelFilter::Off);
        let mut first = options.connect().await?;
        let cluster = ClusterId::of(&mut first).await?;
        first.close().await?;
        let uprooted = CancellationToken::new();
        let noticed = uprooted.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let noticed = noticed.clone();
                Box::pin(async move { refuse_other(connection, cluster, &noticed).await })
            })
            .connect_with(options.clone())
            .await?;
        Ok(Self { pool, options, cluster, uprooted })
    }

    /// The cluster that every connection leads to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Says that this database went back in time, or is another one: this process must end.
    pub fn uproot(&self) {
        self.uprooted.cancel();
    }

    /// Waits until somebody says so.
    pub async fn uprooted(&self) {
        self.uprooted.cancelled().await;
    }

    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection of its own, outside the pool, with generic plans: for the log writer.
    pub async fn dedicated(&self) -> Result<PgConnection, Error> {
        let options = self.options.clone().options([("plan_cache_mode", "force_generic_plan")]);
        let mut connection = options.connect().await?;
        refuse_other(&mut connection, self.cluster, &self.uprooted).await?;
        Ok(connection)
    }

    /// A listener for NOTIFY on a connection of its own, outside the pool.
    pub async fn listener(&self) -> Result<PgListener, Error> {
        let pool = PgPoolOptions::new().max_connections(1).connect_with(self.options.clone()).await?;
        Ok(PgListener::connect_with(&pool).await?)
    }

    /// Brings the schema up to this version. Safe to call from several servers at once.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        // Building an index may take longer than a request may: this one connection waits.
        let mut connection =
            self.options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]).connect().await?;
        MIGRATIONS.run_direct(None, &mut connection, false).await
    }

    /// Whether the schema is the one this binary was built for.
    pub async fn is_migrated(&self) -> Result<bool, Error> {
        let wanted = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        let newest = sqlx::query_scalar!(r#"select max(version) as "newest" from _sqlx_migrations where success"#)
            .fetch_one(&self.pool)
            .await?;
        Ok(newest.is_some_and(|newest| newest >= wanted))
    }

    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Measures what `/metrics` shows of the database: the pool, and how long the oldest writer has been open.
    pub async fn measure(&self) {
        let (size, idle) = (self.pool.size(), u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX));
        metrics::gauge!(metric_name::POOL_CONNECTIONS, "state" => "idle").set(idle);
        metrics::gauge!(metric_name::POOL_CONNECTIONS, "state" => "used").set(size.saturating_sub(idle));
        if let Ok(oldest) = self.oldest_writer().await {
            let age_s = oldest.as_ref().map_or(0.0, |writer| writer.age_s);
            metrics::gauge!(metric_name::LOG_FENCE_LAG_SECONDS).set(age_s);
            if let Some(writer) = oldest.filter(|writer| writer.age_s > FENCE_ALARM_S) {
                writer.name();
            }
        }
    }

    /// Says in the log which backend holds back all readers, if one does.
    pub async fn name_oldest_writer(&self) {
        if let Ok(Some(writer)) = self.oldest_writer().await {
            writer.name();
        }
    }

    /// The open writer of the whole cluster whose transaction id is the oldest.
    async fn oldest_writer(&self) -> Result<Option<OpenWriter>, Error> {
        Ok(sqlx::query_as!(
            OpenWriter,
            r#"select pid as "pid!", coalesce(application_name, '') as "application_name!",
                      coalesce(datname::text, '') as "database!",
                      coalesce(extract(epoch from clock_timestamp() - xact_start), 0)::float8 as "age_s!"
               from pg_stat_activity where backend_xid is not null order by age(backend_xid) desc limit 1"#
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    pub async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(&self.pool).await
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Refuses a connection to another cluster, or to another history of this one.
async fn refuse_other(
    connection: &mut PgConnection,
    cluster: ClusterId,
    uprooted: &CancellationToken,
) -> Result<(), sqlx::Error> {
    if ClusterId::of(connection).await? == cluster {
        return Ok(());
    }
    uprooted.cancel();
    Err(sqlx::Error::Configuration("the database is on another cluster or timeline than at the start".into()))
}
