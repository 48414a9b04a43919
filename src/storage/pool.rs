//! The connections of this process, by class.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult, TimeoutType};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{ConnectOptions, Connection, Describe, Either, Execute, Executor, SqlStr};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::class::{Class, split};
use super::cluster::{self, ClusterId};
use super::pooler::ClusterCheck;
use super::room::Room;
use super::{Error, PgConnection, Tx};
use crate::telemetry::metric_name;

/// Time that a caller waits for a connection before the call fails as `Unavailable`.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Time in which an idle connection must answer a ping.
const PING: Duration = Duration::from_secs(2);
/// Idle time after which the pool pings a connection before it hands it out.
const RESTED: Duration = Duration::from_secs(1);
/// Idle time after which the pool closes a connection.
const IDLE: Duration = Duration::from_mins(10);
/// Age at which the pool replaces a connection, give or take a tenth: a backend of Postgres frees its caches only at
/// its end.
const LIFETIME: Duration = Duration::from_mins(30);

/// A pooled connection.
#[derive(Debug)]
pub struct Live {
    pub(super) connection: sqlx::PgConnection,
    pub(super) room: Arc<Room>,
    /// Set on a connection through a pooler.
    pub(super) check: Option<ClusterCheck>,
    /// When the connection last answered.
    proven: Instant,
    /// When the pool replaces the connection.
    until: Instant,
}

impl Live {
    fn new(connection: sqlx::PgConnection, room: Arc<Room>, check: Option<ClusterCheck>) -> Self {
        let now = Instant::now();
        Self { connection, room, check, proven: now, until: now + LIFETIME.mul_f64(rand::random_range(0.9..1.1)) }
    }
}

/// The way of a connection to Postgres.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub options: PgConnectOptions,
    /// Whether a pooler lends a session for each transaction.
    pub pooled: bool,
}

impl Route {
    /// This route with start-up options that plan every statement by an index.
    pub fn by_index(&self) -> Self {
        Self { options: self.options.clone().options(super::BY_INDEX), pooled: self.pooled }
    }
}

/// Makes connections, and tests idle ones before their next use.
#[derive(Debug)]
pub struct Manager {
    route: Route,
    cluster: ClusterId,
    room: Arc<Room>,
    uprooted: CancellationToken,
    /// The pool replaces connections that last answered before this time: a connection was found silent then, and
    /// others of the class may be silent for the same reason.
    doubted: Mutex<Option<Instant>>,
}

impl Manager {
    pub(super) fn doubt(&self) {
        *self.doubted.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_doubted(&self, live: &Live) -> bool {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|doubted| live.proven < doubted)
    }

    /// Makes a connection, to the cluster and timeline of all others.
    pub(super) async fn connect(&self, route: &Route) -> Result<Live, sqlx::Error> {
        let check = route.pooled.then(|| ClusterCheck { cluster: self.cluster, uprooted: self.uprooted.clone() });
        let connecting = async {
            let mut connection = route.options.connect().await?;
            cluster::refuse_other(&mut connection, self.cluster, &self.uprooted).await?;
            Ok(Live::new(connection, Arc::clone(&self.room), check))
        };
        let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "Postgres took no connection in time"));
        tokio::time::timeout(ACQUIRE, connecting).await.unwrap_or_else(|_| Err(late()))
    }
}

impl managed::Manager for Manager {
    type Type = Live;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Live, sqlx::Error> {
        self.connect(&self.route).await
    }

    async fn recycle(&self, live: &mut Live, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        let now = Instant::now();
        if self.route.pooled && self.uprooted.is_cancelled() {
            return Err(RecycleError::message("of another cluster"));
        }
        if self.is_doubted(live) || live.until < now {
            return Err(RecycleError::message("too old"));
        }
        if metrics.last_used() > RESTED {
            match tokio::time::timeout(PING, live.connection.ping()).await {
                Ok(answered) => answered?,
                Err(_) => {
                    self.doubt();
                    return Err(RecycleError::message("silent"));
                }
            }
        }
        live.proven = now;
        Ok(())
    }
}

/// The pool of connections, as one class of callers sees it. Its interface is that of `sqlx`'s pool.
#[derive(Clone, Debug)]
pub struct PgPool {
    pools: Arc<Pools>,
    class: Class,
}

/// One pool for each class; a single shared pool where there are few connections.
#[derive(Debug)]
struct Pools([managed::Pool<Manager>; 5]);

impl Pools {
    fn of(&self, class: Class) -> &managed::Pool<Manager> {
        let [authentication, tailer, reads, writes, workers] = &self.0;
        match class {
            Class::Authentication => authentication,
            Class::Tailer => tailer,
            Class::Reads => reads,
            Class::Writes => writes,
            Class::Workers => workers,
        }
    }
}

impl PgPool {
    pub(super) fn new(
        direct: &Route,
        pooled: Option<&Route>,
        connections: u32,
        cluster: ClusterId,
        room: &Arc<Room>,
        uprooted: &CancellationToken,
    ) -> Self {
        let pool = |size: u32, route: Route| {
            let (room, uprooted) = (Arc::clone(room), uprooted.clone());
            let manager = Manager { route, cluster, room, uprooted, doubted: Mutex::default() };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            managed::Pool::builder(manager).max_size(size).queue_mode(managed::QueueMode::Lifo).build()
        };
        // Only a pool with time-outs of its own can fail to be built.
        let pool = |size, route| {
            pool(size, route).unwrap_or_else(|_| unreachable!("a pool without time-outs needs no runtime"))
        };
        let pools = match split(connections) {
            Some(sizes) => std::array::from_fn(|place| {
                let by_index = Class::ALL[place].finds_by_index();
                pool(sizes[place], if by_index { direct.by_index() } else { pooled.unwrap_or(direct).clone() })
            }),
            None => {
                let shared = pool(connections, pooled.unwrap_or(direct).clone());
                std::array::from_fn(|_| shared.clone())
            }
        };
        Self { pools: Arc::new(Pools(pools)), class: Class::Reads }
    }

    pub(super) fn of(&self, class: Class) -> Self {
        Self { pools: Arc::clone(&self.pools), class }
    }

    /// The manager that makes the connections of this class.
    pub(super) fn manager(&self) -> &Manager {
        self.pools.of(self.class).manager()
    }

    /// Takes a connection, which returns to the pool when it is dropped.
    pub async fn acquire(&self) -> Result<PgConnection, sqlx::Error> {
        super::class::beat();
        let pool = self.pools.of(self.class.in_force());
        match tokio::time::timeout(ACQUIRE, pool.get()).await {
            Ok(Ok(object)) => Ok(PgConnection::pooled(object)),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Err(_)
            | Ok(Err(
                PoolError::Timeout(TimeoutType::Wait | TimeoutType::Create | TimeoutType::Recycle)
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_),
            )) => Err(sqlx::Error::PoolTimedOut),
        }
    }

    pub async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(self.acquire().await?).await
    }

    /// Closes connections that have been idle for long.
    pub(super) fn tidy(&self) {
        for class in Class::ALL {
            self.pools.of(class).retain(|_, metrics| metrics.last_used() < IDLE);
        }
    }

    pub(super) fn measure(&self) {
        let gauge = |class: Class, state: &'static str, count: usize| {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics::gauge!(metric_name::POOL_CONNECTIONS, "class" => class.name(), "state" => state).set(count);
        };
        for class in Class::ALL {
            let status = self.pools.of(class).status();
            gauge(class, "idle", status.available);
            gauge(class, "used", status.size.saturating_sub(status.available));
        }
    }

    pub(super) fn close(&self) {
        for class in Class::ALL {
            self.pools.of(class).close();
        }
    }
}

type Step = Either<PgQueryResult, PgRow>;

impl<'p> Executor<'p> for &'_ PgPool {
    type Database = Postgres;

    fn fetch_many<'e, 'q, E>(self, query: E) -> BoxStream<'e, Result<Step, sqlx::Error>>
    where
        'p: 'e,
        E: Execute<'q, Postgres>,
        'q: 'e,
        E: 'q,
    {
        let pool = self.clone();
        // The connection must not wait for the reader of the rows.
        let rows = async move { pool.acquire().await?.fetch_many(query).try_collect::<Vec<Step>>().await };
        stream::once(rows).map_ok(|rows| stream::iter(rows.into_iter().map(Ok))).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: Execute<'q, Postgres>,
        'q: 'e,
        E: 'q,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        Box::pin(async move { pool.acquire().await?.describe(sql).await })
    }
}
