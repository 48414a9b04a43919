//! Statements and rows, as `pg_stat_statements` counts them; a Postgres without that extension counts nothing.

use anyhow::Context;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

pub const EXTENSION: &str = "pg_stat_statements";

/// How many of the slowest statements are kept.
const SLOWEST: i64 = 12;

/// What Postgres did for one database since [`begin`].
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub statements: i64,
    pub rows: i64,
    /// The statements that took longest in all: calls, milliseconds in all, the beginning of the text.
    pub slowest: Vec<(i64, f64, String)>,
}

/// Begins to count in this database. False where Postgres does not count.
pub async fn begin(database: &str) -> anyhow::Result<bool> {
    let mut connection = PgConnection::connect(database).await?;
    let loaded: String = sqlx::query_scalar("show shared_preload_libraries").fetch_one(&mut connection).await?;
    if !loaded.contains(EXTENSION) {
        return Ok(false);
    }
    connection.execute(AssertSqlSafe(format!("create extension if not exists {EXTENSION}"))).await?;
    connection.execute("select pg_stat_statements_reset()").await.context("beginning to count statements")?;
    Ok(true)
}

pub async fn counted(database: &str) -> anyhow::Result<Counts> {
    let mut connection = PgConnection::connect(database).await?;
    let of_this = "from pg_stat_statements s join pg_database d on d.oid = s.dbid
                   where d.datname = current_database() and s.query not like '%pg_stat_statements%'";
    let sums = format!("select coalesce(sum(calls), 0)::bigint, coalesce(sum(rows), 0)::bigint {of_this}");
    let (statements, rows) = sqlx::query_as(AssertSqlSafe(sums)).fetch_one(&mut connection).await?;
    let slowest = format!(
        "select calls, total_exec_time, left(regexp_replace(query, '\\s+', ' ', 'g'), 110) {of_this}
         order by total_exec_time desc limit {SLOWEST}"
    );
    let slowest = sqlx::query_as(AssertSqlSafe(slowest)).fetch_all(&mut connection).await?;
    Ok(Counts { statements, rows, slowest })
}
