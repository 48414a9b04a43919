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
    /// Calls and rows of each statement.
    pub each: Vec<(i64, i64)>,
    /// The statements that took longest in all: calls, milliseconds in all, the beginning of the text.
    pub slowest: Vec<(i64, f64, String)>,
}

impl Counts {
    /// Statements and rows of one unit of work, where each statement counts as often as the nearest whole number of its
    /// calls for each unit: statements of workers, which run by time, count nothing.
    pub fn whole(&self, units: usize) -> Option<(f64, f64)> {
        let units = i64::try_from(units).ok().filter(|units| *units > 0)?;
        let nearest = |count: i64| (count + units / 2) / units;
        let sum = |counts: &mut dyn Iterator<Item = i64>| counts.map(nearest).sum::<i64>();
        #[expect(clippy::cast_precision_loss, reason = "counts for one unit are small")]
        Some((
            sum(&mut self.each.iter().map(|(calls, _)| *calls)) as f64,
            sum(&mut self.each.iter().map(|(_, rows)| *rows)) as f64,
        ))
    }
}

/// Rows of the table `entry` that Postgres fetched for this database since [`forget_rows_read`], from the table and by its
/// indexes. Postgres counts them when a connection ends.
pub async fn entry_rows_read(database: &str) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(database).await?;
    let read = "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint
                from pg_stat_user_tables where relname = 'entry'";
    Ok(sqlx::query_scalar(read).fetch_one(&mut connection).await?)
}

/// Sets the counts of [`entry_rows_read`] to 0.
pub async fn forget_rows_read(database: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    connection.execute("select pg_stat_reset()").await.context("beginning to count rows")?;
    Ok(())
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
    let each = format!("select s.calls, s.rows {of_this}");
    let each = sqlx::query_as(AssertSqlSafe(each)).fetch_all(&mut connection).await?;
    Ok(Counts { statements, rows, each, slowest })
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn statements_of_workers_are_no_part_of_a_unit() {
        let counts = Counts { each: vec![(100, 200), (99, 0), (249, 251), (3, 900)], ..Counts::default() };
        assert_eq!(counts.whole(100), Some((1.0 + 1.0 + 2.0, 2.0 + 3.0 + 9.0)));
        assert_eq!(counts.whole(0), None);
    }
}
