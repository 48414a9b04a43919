//! SQL on the log of operators' actions.

use chrono::{DateTime, Utc};

use super::ActionRecord;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Hash};

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

fn to_db(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The last number and hash, locked until the transaction ends.
pub(super) async fn lock_head(conn: &mut PgConnection) -> Result<(u64, Vec<u8>), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('operator actions', 0))").execute(&mut *conn).await?;
    let head = sqlx::query!("select seq, hash from operator_action order by seq desc limit 1");
    let head = head.fetch_optional(conn).await?;
    Ok(head.map_or_else(|| (0, Hash::ZERO.to_vec()), |head| (number(head.seq), head.hash)))
}

pub(super) async fn insert(
    conn: &mut PgConnection,
    seq: u64,
    statement: &[u8],
    hash: Hash,
    account: Option<&Did>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into operator_action (seq, statement, hash, account, created_at) values ($1, $2, $3, $4, $5)",
        to_db(seq),
        statement,
        hash.as_slice(),
        account.map(Did::as_str),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn list(pool: &PgPool, after: u64, limit: i64) -> Result<Vec<ActionRecord>, Error> {
    Ok(sqlx::query_as!(
        ActionRecord,
        "select statement as bytes, hash from operator_action where seq > $1 order by seq limit $2",
        to_db(after),
        limit
    )
    .fetch_all(pool)
    .await?)
}
