//! Bringing the schema up to date.
//!
//! Invariant: one server at a time migrates, and servers that wait for it hold no snapshot meanwhile: `create index
//! concurrently` waits for every snapshot, and would wait for theirs forever.

use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::Instant;

use super::{Error, Storage};

/// Migrations of a later version may already be applied: during a roll-out, and after a rolled-back one, a server
/// starts on the schema of the next version, which only adds to its own.
static MIGRATIONS: &[Migrator] = &[
    Migrator { ignore_missing: true, locking: false, ..sqlx::migrate!() },
    #[cfg(feature = "next-version")]
    Migrator { ignore_missing: true, locking: false, ..sqlx::migrate!("tests/next-version") },
];

/// The name of the advisory lock that a migrating server holds.
const LOCK: &str = "migrations of rookery";
/// Pause between two attempts to take the advisory lock.
const LOCK_PAUSE: Duration = Duration::from_millis(250);
/// Interval at which a waiting server logs that it waits.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Time that a statement of a migration waits for a lock of a table: other statements on that table queue behind it.
const LOCK_TIMEOUT: &str = "3s";
/// SQLSTATE of a statement that waited for a lock beyond [`LOCK_TIMEOUT`], and of one that Postgres ended to resolve a
/// deadlock with the instances that serve meanwhile. Both roll the migration back, and a later attempt may pass.
const NO_LOCK: [&str; 2] = ["55P03", "40P01"];
/// Attempts to run the migrations when a lock of a table is not free, and the pause between two attempts.
const ATTEMPTS: u32 = 20;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(transparent)]
    Storage(#[from] Error),
    #[error(transparent)]
    Migration(#[from] sqlx::migrate::MigrateError),
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// The session that holds the advisory lock.
struct Holder {
    pid: i32,
    application_name: String,
    age_s: f64,
}

impl Storage {
    /// Brings the schema up to this version. Safe to call from several servers at once.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        // Building an index may take longer than a request: the statements of this connection have no deadline, but the
        // wait for a lock has one, because all other statements would queue behind it.
        let options = [
            ("statement_timeout", "0"),
            ("lock_timeout", LOCK_TIMEOUT),
            ("idle_in_transaction_session_timeout", "0"),
            ("client_min_messages", "warning"),
        ];
        let mut connection = self.shared.direct.options.clone().options(options).connect().await?;
        lock(&mut connection).await?;
        name_invalid_indexes(&mut connection).await?;
        for migrations in MIGRATIONS {
            let mut attempt = 1;
            loop {
                match migrations.run_direct(None, &mut connection, false).await {
                    Err(error) if attempt < ATTEMPTS && found_no_lock(&error) => {
                        tracing::warn!(attempt, "a migration waits for a table that another session has locked");
                        attempt += 1;
                        tokio::time::sleep(ATTEMPT_PAUSE).await;
                    }
                    outcome => break outcome?,
                }
            }
        }
        // The lock ends with the connection.
        Ok(())
    }

    /// Whether the schema has every migration of this version. Migrations of later versions do not count.
    pub async fn is_migrated(&self) -> Result<bool, Error> {
        let wanted: Vec<i64> = MIGRATIONS.iter().flat_map(Migrator::iter).map(|migration| migration.version).collect();
        let missing = sqlx::query_scalar!(
            r#"select count(*) as "missing!" from unnest($1::bigint[]) wanted (version)
               where not exists (select 1 from _sqlx_migrations m where m.version = wanted.version and m.success)"#,
            &wanted
        )
        .fetch_one(self.pool())
        .await?;
        Ok(missing == 0)
    }
}

fn found_no_lock(error: &sqlx::migrate::MigrateError) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = error {
        if let Some(sqlx::Error::Database(database)) = cause.downcast_ref() {
            return database.code().is_some_and(|code| NO_LOCK.contains(&&*code));
        }
        error = cause.source();
    }
    false
}

/// Polls for the advisory lock, so that no statement waits inside Postgres.
async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    let mut said: Option<Instant> = None;
    loop {
        let locked = sqlx::query_scalar!(r#"select pg_try_advisory_lock(hashtextextended($1, 0)) as "locked!""#, LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if locked {
            return Ok(());
        }
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            said = Some(Instant::now());
            if let Some(Holder { pid, application_name, age_s }) = holder(connection).await? {
                tracing::warn!(
                    pid,
                    application_name,
                    age_s,
                    "waiting for another session to end its migration of the schema"
                );
            }
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

async fn holder(connection: &mut PgConnection) -> Result<Option<Holder>, Error> {
    Ok(sqlx::query_as!(
        Holder,
        r#"select a.pid as "pid!", coalesce(a.application_name, '') as "application_name!",
                  coalesce(extract(epoch from clock_timestamp() - a.backend_start), 0)::float8 as "age_s!"
           from pg_locks l join pg_stat_activity a on a.pid = l.pid
           where l.locktype = 'advisory' and l.granted and l.objsubid = 1
             and l.database = (select oid from pg_database where datname = current_database())
             and (l.classid::bigint << 32) | l.objid::bigint = hashtextextended($1, 0)
           limit 1"#,
        LOCK
    )
    .fetch_optional(connection)
    .await?)
}

/// Postgres keeps an index whose build was interrupted, updates it with every write, and never reads it.
async fn name_invalid_indexes(connection: &mut PgConnection) -> Result<(), Error> {
    let invalid = sqlx::query_scalar!(
        r#"select c.oid::regclass::text as "name!" from pg_index i join pg_class c on c.oid = i.indexrelid
           where not i.indisvalid and c.relnamespace = current_schema()::regnamespace order by 1"#
    )
    .fetch_all(connection)
    .await?;
    for index in invalid {
        tracing::warn!(
            index,
            "this index is invalid: its building was interrupted. Fix: `drop index concurrently` it, then start again, \
             unless another session is building it"
        );
    }
    Ok(())
}
