//! SQL on what was delivered.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Known;
use crate::storage::{Error, PgConnection, PgPool};

/// The first answer; `Err` inside if something else was delivered under this id.
pub async fn find(pool: &PgPool, known: &Known<'_>) -> Result<Option<Result<Value, ()>>, Error> {
    let row = sqlx::query!(
        "select request_hash, answer from delivered where peer = $1 and account_id = $2 and delivery_id = $3",
        known.peer.as_str(),
        known.account_id,
        known.id
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| if row.request_hash == known.hash.as_slice() { Ok(row.answer) } else { Err(()) }))
}

/// Whether this call was the first.
pub async fn keep(
    conn: &mut PgConnection,
    known: &Known<'_>,
    answer: &Value,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let kept = sqlx::query!(
        "insert into delivered (peer, account_id, delivery_id, request_hash, answer, created_at)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        known.peer.as_str(),
        known.account_id,
        known.id,
        known.hash.as_slice(),
        answer,
        now
    )
    .execute(conn)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Term and number of the last entry of the account's own stream.
pub async fn position(conn: &mut PgConnection, account_id: i64) -> Result<(u64, u64), Error> {
    let row = sqlx::query!(
        "select s.term, s.head_seq from account a join stream s on s.id = a.stream_id where a.id = $1",
        account_id
    )
    .fetch_one(conn)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    Ok((number(row.term), number(row.head_seq)))
}
