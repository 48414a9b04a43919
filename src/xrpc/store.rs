//! SQL of the protocol surface: devices for token checks, first answers of calls that no entry can rebuild.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::storage::Error;
use crate::types::Hash;

pub(super) struct DeviceRow {
    pub id: i64,
    pub account_id: i64,
    pub did: String,
    pub public_key: Vec<u8>,
    pub alg: String,
    pub state: String,
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When it was last seen, or else registered.
    pub known_at: DateTime<Utc>,
}

pub(super) async fn find_device(pool: &PgPool, device: &str) -> Result<Option<DeviceRow>, Error> {
    Ok(sqlx::query_as!(
        DeviceRow,
        r#"select d.id, d.account_id, a.did, d.public_key, d.alg, d.state, d.last_seen_at,
                  coalesce(d.last_seen_at, d.created_at) as "known_at!"
           from device d join account a on a.id = d.account_id where d.public_id = $1"#,
        device
    )
    .fetch_optional(pool)
    .await?)
}

pub(super) async fn touch_device(pool: &PgPool, id: i64, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update device set last_seen_at = $2 where id = $1", id, now).execute(pool).await?;
    Ok(())
}

pub(super) async fn find_account(pool: &PgPool, did: &str) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!("select id from account where did = $1", did).fetch_optional(pool).await?)
}

pub(super) struct AnswerRow {
    pub request_hash: Vec<u8>,
    pub body: serde_json::Value,
}

pub(super) async fn find_answer(
    pool: &PgPool,
    account_id: i64,
    device_row: i64,
    method: &str,
    idem: &str,
) -> Result<Option<AnswerRow>, Error> {
    Ok(sqlx::query_as!(
        AnswerRow,
        "select request_hash, body from answer
         where account_id = $1 and device_id = $2 and method = $3 and idem = $4",
        account_id,
        device_row,
        method,
        idem
    )
    .fetch_optional(pool)
    .await?)
}

#[expect(clippy::too_many_arguments, reason = "one parameter a column: a struct would be built for this call alone")]
pub(super) async fn insert_answer(
    conn: &mut PgConnection,
    account_id: i64,
    device_row: i64,
    method: &str,
    idem: &str,
    request_hash: Hash,
    body: &serde_json::Value,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into answer (account_id, device_id, method, idem, request_hash, body, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        account_id,
        device_row,
        method,
        idem,
        request_hash.as_slice(),
        body,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
