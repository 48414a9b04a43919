//! A pooler between this server and Postgres, which lends a session for one transaction (PgBouncer, `pool_mode =
//! transaction`).
//!
//! Invariants: only statements that need no session go through the pooler. A pooler that forgets prepared statements,
//! and a role without the time limits of [`SESSION`](super::cluster::SESSION), are refused at the start. Every
//! transaction through the pooler begins with a look at the cluster: the connection to the pooler survives a failover.

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio_util::sync::CancellationToken;

use super::cluster::{ClusterId, SESSION};

/// SQLSTATE of a statement that does not exist, and of one that exists already. Both mean that this connection got the
/// session of another one together with its statements.
const FORGOTTEN: [&str; 2] = ["26000", "42P05"];
/// Rounds of the test. One is enough for a pooler that lends the session that was returned last.
const ROUNDS: usize = 4;

/// The statement that begins a transaction through a pooler. One message of the simple protocol, so that the look at
/// the cluster costs no round trip.
pub(super) const BEGIN: &str = "begin; select system_identifier::text as system_id,
    ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer::text as timeline
    from pg_control_system()";

/// Why the server does not use a pooler.
#[derive(Debug, thiserror::Error)]
enum PoolerRefused {
    #[error(
        "the pooler does not keep prepared statements: PgBouncer 1.21 or newer with max_prepared_statements > 0 is \
         needed. Fix: upgrade or configure the pooler, or let DATABASE_URL name Postgres itself and unset \
         DATABASE_DIRECT_URL"
    )]
    ForgetsStatements,
    #[error(
        "connections through the pooler lack time limits, and a pooler passes on no start-up options. Fix: run as the \
         owner of the database: {statements}; then let the pooler reconnect (RECONNECT in its console)"
    )]
    LacksLimits { statements: String },
}

impl From<PoolerRefused> for sqlx::Error {
    fn from(refused: PoolerRefused) -> Self {
        Self::Configuration(Box::new(refused))
    }
}

/// Refuses a pooler that forgets prepared statements, and a role without the time limits.
pub(super) async fn refuse_unfit(options: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let (mut one, mut two) = (options.connect().await?, options.connect().await?);
    for _ in 0..ROUNDS {
        keeps_statements(&mut one, &mut two).await.map_err(named)?;
        keeps_statements(&mut two, &mut one).await.map_err(named)?;
    }
    refuse_unlimited(&mut one).await?;
    one.close().await?;
    two.close().await
}

/// Prepares a statement on each of two connections, while one of them has a session to itself. The two statements have
/// one name, because each connection counts its own.
async fn keeps_statements(holder: &mut PgConnection, other: &mut PgConnection) -> Result<(), sqlx::Error> {
    echo(other).await?;
    let mut tx = holder.begin().await?;
    echo(&mut tx).await?;
    echo(other).await?;
    tx.rollback().await
}

async fn echo(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(r#"select $1::integer as "echo!""#, 1).fetch_one(connection).await.map(drop)
}

fn named(error: sqlx::Error) -> sqlx::Error {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    if code.is_some_and(|code| FORGOTTEN.contains(&&*code)) {
        return PoolerRefused::ForgetsStatements.into();
    }
    error
}

/// Refuses a role whose sessions lack a limit, with the statements that set all of them.
async fn refuse_unlimited(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (names, wanted): (Vec<String>, Vec<String>) =
        SESSION.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).unzip();
    let statements = sqlx::query_scalar!(
        r#"select string_agg(format('alter role %I in database %I set %I = %L', current_user, current_database(), name,
                             wanted), '; ' order by place) as statements
           from unnest($1::text[], $2::text[]) with ordinality s (name, wanted, place)
           where current_setting(name) <> wanted"#,
        &names,
        &wanted
    )
    .fetch_one(connection)
    .await?;
    match statements {
        Some(statements) => Err(PoolerRefused::LacksLimits { statements }.into()),
        None => Ok(()),
    }
}

/// Compares the cluster of each transaction with the cluster of the start.
#[derive(Clone, Debug)]
pub(super) struct ClusterCheck {
    pub cluster: ClusterId,
    pub uprooted: CancellationToken,
}

impl ClusterCheck {
    /// Judges the answer to [`BEGIN`].
    pub(super) fn judge(&self, rows: &[PgRow]) -> Result<(), sqlx::Error> {
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let (system_id, timeline): (String, String) = (row.try_get("system_id")?, row.try_get("timeline")?);
        let ClusterId { system_id: known_id, timeline: known_timeline } = self.cluster;
        if (system_id, timeline) == (known_id.to_string(), known_timeline.to_string()) {
            return Ok(());
        }
        self.uprooted.cancel();
        Err(super::cluster::other_cluster())
    }
}
