//! Postgres: the pool, the migrations, the unit of work.
//!
//! Invariant: an answer of success is given only after its commit, and no code waits for a second connection while it
//! holds one (a pool of one connection must suffice).
//!
//! Invariant: every statement has a deadline. All code outside of this module uses [`PgPool`] and [`PgConnection`],
//! which are `sqlx`'s types with deadlines.
//!
//! Invariant: a connection that needs a session of its own never goes through a pooler: those of the log writer, of
//! signals and of migrations, and the classes whose plans are set at the start of the session.
//!
//! Invariant: all connections of a process lead to one cluster and one history of it. After a failover or a restore
//! no connection is made any more: what is kept in memory may be of a future that was lost, so the process ends, and
//! the next one begins with what is there.

mod beat;
mod class;
mod cluster;
mod connection;
mod error;
mod guard;
mod migrate;
mod pool;
mod pooler;
mod room;
mod statement_queue;

pub mod embedded;
mod tx;

pub use beat::Beat;
pub use class::Class;
pub use cluster::ClusterId;
pub use connection::{PgConnection, STATEMENT_DEADLINE};
pub use error::{Error, retrying};
pub use guard::{Unsafe, refuse_unsafe};
pub use migrate::MigrateError;
pub use pool::PgPool;
use pool::Route;
pub use room::{Disk, DiskWatch};
pub use statement_queue::{SharedError, SharedStatement, StatementQueue};
pub use tx::Tx;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metric_name;

/// Plans of connections whose statements all find their rows by an index.
const BY_INDEX: [(&str, &str); 4] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];
/// Time in which the first connection must be established.
const CONNECT: Duration = Duration::from_secs(10);

/// A writer that is open for longer is named at each look.
const FENCE_ALARM_S: f64 = 5.0;

/// A backend with an open writing transaction, without its query, which may hold private data.
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

/// The database of this server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Storage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    authentication: PgPool,
    reads: PgPool,
    writes: PgPool,
    direct: Route,
    connections: u32,
    cluster: ClusterId,
    room: Arc<room::Room>,
    /// Cancelled when the database turned out to be another one than at the start.
    uprooted: CancellationToken,
}

impl Storage {
    /// Connects with at most `connections` connections.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, Error> {
        Self::connect_by(url, None, connections).await
    }

    /// Connects with at most `connections` connections, through a pooler at `pooled` where a connection needs no session
    /// of its own.
    pub async fn connect_by(direct: &str, pooled: Option<&str>, connections: u32) -> Result<Self, Error> {
        let options = |url: &str| PgConnectOptions::from_str(url).map(|options| options.application_name("rookery"));
        let silent = |options: PgConnectOptions| options.log_statements(tracing::log::LevelFilter::Off);
        let direct = Route { options: silent(options(direct)?.options(cluster::SESSION)), pooled: false };
        // A pooler refuses start-up options that it does not know.
        let pooled = pooled.map(|url| options(url).map(|options| silent(options.extra_float_digits(None::<i8>))));
        let pooled = pooled.transpose()?.map(|options| Route { options, pooled: true });
        let looking = async {
            let mut first = direct.options.connect().await?;
            let cluster = ClusterId::of(&mut first).await?;
            first.close().await?;
            if let Some(pooled) = &pooled {
                pooler::refuse_unfit(&pooled.options).await?;
            }
            Ok::<_, sqlx::Error>(cluster)
        };
        let cluster = tokio::time::timeout(CONNECT, looking).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        let uprooted = CancellationToken::new();
        let room = Arc::default();
        let reads = PgPool::new(&direct, pooled.as_ref(), connections, cluster, &room, &uprooted);
        let (authentication, writes) = (reads.of(Class::Authentication), reads.of(Class::Writes));
        let shared = Shared { authentication, reads, writes, direct, connections, cluster, room, uprooted };
        let storage = Self { shared: Arc::new(shared) };
        // A refusal of the first connection ends the start with its reason.
        drop(storage.pool().acquire().await?);
        Ok(storage)
    }

    /// The cluster that every connection leads to.
    pub fn cluster(&self) -> ClusterId {
        self.shared.cluster
    }

    /// Says that this database went back in time, or is another one: this process must end.
    pub fn uproot(&self) {
        self.shared.uprooted.cancel();
    }

    /// Waits for a call of [`Storage::uproot`].
    pub async fn uprooted(&self) {
        self.shared.uprooted.cancelled().await;
    }

    /// Connections for statements of requests.
    pub fn pool(&self) -> &PgPool {
        &self.shared.reads
    }

    /// Connections that are reserved for authenticating callers.
    pub fn authentication(&self) -> &PgPool {
        &self.shared.authentication
    }

    /// How many transactions may hold locks of streams at the same time.
    pub fn stream_transactions(&self) -> u32 {
        class::stream_transactions(self.shared.connections)
    }

    /// A connection of its own, outside the pool, for the log writer. Every statement finds its rows by an index: a plan
    /// is made once, perhaps before Postgres knows how many rows a table has.
    pub async fn dedicated(&self) -> Result<PgConnection, Error> {
        let route = self.shared.direct.by_index();
        Ok(PgConnection::own(self.shared.reads.manager().connect(&route).await?))
    }

    /// A listener for NOTIFY on a connection of its own, outside the pool. The listener cannot detect a silent
    /// connection: its user must expect a notification at regular intervals.
    pub async fn listener(&self) -> Result<PgListener, Error> {
        let options = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT);
        let pool = options.connect_with(self.shared.direct.options.clone()).await?;
        Ok(PgListener::connect_with(&pool).await?)
    }

    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query_scalar!(r#"select 1 as "one!""#).fetch_one(self.pool()).await?;
        Ok(())
    }

    /// Measures what `/metrics` shows of the database: the pool, and how long the oldest writer has been open.
    pub async fn measure(&self) {
        self.pool().measure();
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
        .fetch_optional(self.pool())
        .await?)
    }

    pub async fn begin(&self) -> Result<Tx, Error> {
        self.shared.writes.begin().await
    }

    /// Closes the pools: no caller gets a connection any more.
    pub fn close(&self) {
        self.shared.reads.close();
    }
}
