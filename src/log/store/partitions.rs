//! SQL of the partitions by time.

use crate::log::Error;
use crate::storage::PgConnection;

/// Makes the partitions that are missing.
pub(in crate::log) async fn add_partitions(
    conn: &mut PgConnection,
    weeks: &[i16],
    periods: &[i16],
) -> Result<(), Error> {
    sqlx::query!("select add_log_partitions($1, $2)", weeks, periods).execute(conn).await?;
    Ok(())
}

/// The numbers of all partitions of contents but the one of contents that stay, oldest first.
pub(in crate::log) async fn content_weeks(conn: &mut PgConnection) -> Result<Vec<i16>, Error> {
    Ok(sqlx::query_scalar!(
        r#"select substr(c.relname, length('content_') + 1)::smallint as "week!"
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'content'::regclass and c.relname <> 'content_0' order by 1"#
    )
    .fetch_all(conn)
    .await?)
}

/// The numbers of all partitions of identities, oldest first.
pub(in crate::log) async fn identity_periods(conn: &mut PgConnection) -> Result<Vec<i16>, Error> {
    Ok(sqlx::query_scalar!(
        r#"select substr(c.relname, length('call_identity_') + 1)::smallint as "period!"
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = 'call_identity'::regclass order by 1"#
    )
    .fetch_all(conn)
    .await?)
}

/// Whether a content of this week is beyond the position that the sweep of messages has reached.
pub(in crate::log) async fn holds_unswept(conn: &mut PgConnection, week: i16) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from content
               where week = $1 and pos > 0 and pos > (select pos from log_sweep where job = 2)
           ) as "unswept!""#,
        week
    )
    .fetch_one(conn)
    .await?)
}

/// Drops the contents of a week. Fails where another transaction uses the table for longer than 200 ms, because all
/// readers queue behind the drop.
pub(in crate::log) async fn drop_week(conn: &mut PgConnection, week: i16) -> Result<(), Error> {
    drop_partition(conn, &format!("content_{week}")).await
}

/// Forgets the calls of a period.
pub(in crate::log) async fn drop_period(conn: &mut PgConnection, period: i16) -> Result<(), Error> {
    drop_partition(conn, &format!("call_identity_{period}")).await
}

async fn drop_partition(conn: &mut PgConnection, name: &str) -> Result<(), Error> {
    sqlx::query!("select drop_log_partition($1)", name).execute(conn).await?;
    Ok(())
}
