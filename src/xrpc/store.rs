//! SQL of the protocol surface: devices for token checks, first answers of calls that no entry can rebuild, read
//! positions.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::read_positions::Advance;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{DeviceId, Did, Hash, Seq};

#[derive(Clone)]
pub(super) struct DeviceRow {
    pub id: i64,
    pub public_id: String,
    pub account_id: i64,
    pub did: String,
    pub public_key: Vec<u8>,
    pub alg: String,
    pub state: String,
    pub last_seen_at: Option<DateTime<Utc>>,
    /// When it was last seen, or else registered.
    pub known_at: DateTime<Utc>,
    pub account_proven_at: DateTime<Utc>,
    pub account_created_at: DateTime<Utc>,
    pub suspended: bool,
    pub server: Option<String>,
    /// When the account's DID was first found to have no document.
    pub did_gone_at: Option<DateTime<Utc>>,
}

/// Devices of this server's accounts by their ids.
pub(super) async fn find_devices(pool: &PgPool, devices: &[String]) -> Result<Vec<DeviceRow>, Error> {
    Ok(sqlx::query_as!(
        DeviceRow,
        r#"select d.id, d.public_id, d.account_id, a.did, d.public_key, d.alg, d.state, d.last_seen_at,
                  coalesce(d.last_seen_at, d.created_at) as "known_at!",
                  coalesce(d.account_proven_at, d.created_at) as "account_proven_at!",
                  a.created_at as account_created_at, a.suspended_at is not null as "suspended!", a.server, a.did_gone_at
           from device d join account a on a.id = d.account_id where d.public_id = any($1) and d.state <> 'foreign'"#,
        devices
    )
    .fetch_all(pool)
    .await?)
}

/// Devices by their rows.
pub(super) async fn devices(pool: &PgPool, device_rows: &[i64]) -> Result<Vec<DeviceRow>, Error> {
    Ok(sqlx::query_as!(
        DeviceRow,
        r#"select d.id, d.public_id, d.account_id, a.did, d.public_key, d.alg, d.state, d.last_seen_at,
                  coalesce(d.last_seen_at, d.created_at) as "known_at!",
                  coalesce(d.account_proven_at, d.created_at) as "account_proven_at!",
                  a.created_at as account_created_at, a.suspended_at is not null as "suspended!", a.server, a.did_gone_at
           from device d join account a on a.id = d.account_id where d.id = any($1) and d.state <> 'foreign'"#,
        device_rows
    )
    .fetch_all(pool)
    .await?)
}

/// The device was seen; with a service token of its account, if `with_account`.
pub(super) async fn touch_device(pool: &PgPool, id: i64, with_account: bool, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "update device set last_seen_at = $2, account_proven_at = case when $3 then $2 else account_proven_at end
         where id = $1",
        id,
        now,
        with_account
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) struct AccountRow {
    pub id: i64,
    pub created_at: DateTime<Utc>,
    pub suspended: bool,
    pub server: Option<String>,
    pub did_gone_at: Option<DateTime<Utc>>,
}

pub(super) async fn find_account(pool: &PgPool, did: &str) -> Result<Option<AccountRow>, Error> {
    Ok(sqlx::query_as!(
        AccountRow,
        r#"select id, created_at, suspended_at is not null as "suspended!", server, did_gone_at
           from account where did = $1"#,
        did
    )
    .fetch_optional(pool)
    .await?)
}

/// The generation of the account's newest device chain.
pub(super) async fn find_chain_generation(pool: &PgPool, account_id: i64) -> Result<Option<i32>, Error> {
    Ok(sqlx::query_scalar!("select max(generation) from device_link where account_id = $1", account_id)
        .fetch_one(pool)
        .await?)
}

/// The other server that the account's DID document names now, if any.
pub(super) async fn set_server(pool: &PgPool, account_id: i64, server: Option<&str>) -> Result<(), Error> {
    sqlx::query!("update account set server = $2 where id = $1", account_id, server).execute(pool).await?;
    Ok(())
}

/// Stores when the account's DID was first found to have no document, or that it has one.
pub(super) async fn set_did_gone(pool: &PgPool, account_id: i64, since: Option<DateTime<Utc>>) -> Result<(), Error> {
    sqlx::query!(
        "update account set did_gone_at = case when $2::timestamptz is null then null
                                               else coalesce(did_gone_at, $2) end
         where id = $1",
        account_id,
        since
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Rows of an account and a device of another server.
pub(super) struct ForeignAuthor {
    pub account_id: i64,
    pub device_row: i64,
    pub suspended: bool,
}

/// Devices of one account that are known because its server named them.
const FOREIGN_DEVICES: i64 = 50;

/// Whether the account has or had a seat in any stream here.
pub(super) async fn was_seated(pool: &PgPool, did: &Did) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from account a join seat s on s.account_id = a.id where a.did = $1) as "seated!""#,
        did.as_str()
    )
    .fetch_one(pool)
    .await?)
}

/// Creates the rows of an account and a device that another server vouches for; `None` if that server named too many
/// devices of this account.
pub(super) async fn make_author(
    pool: &PgPool,
    did: &Did,
    device: &DeviceId,
    now: DateTime<Utc>,
) -> Result<Option<ForeignAuthor>, Error> {
    sqlx::query!("insert into account (did, created_at) values ($1, $2) on conflict do nothing", did.as_str(), now)
        .execute(pool)
        .await?;
    sqlx::query!(
        "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
         select a.id, $2, '', 'EdDSA', 'app', 'foreign', $3 from account a
         where a.did = $1 and (
             select count(*) from device d where d.account_id = a.id and d.state = 'foreign'
         ) < $4
         on conflict do nothing",
        did.as_str(),
        device.as_str(),
        now,
        FOREIGN_DEVICES
    )
    .execute(pool)
    .await?;
    find_author(pool, did, device).await
}

pub(super) async fn find_author(pool: &PgPool, did: &Did, device: &DeviceId) -> Result<Option<ForeignAuthor>, Error> {
    Ok(sqlx::query_as!(
        ForeignAuthor,
        r#"select a.id as account_id, d.id as device_row, a.suspended_at is not null as "suspended!"
           from account a join device d on d.account_id = a.id where a.did = $1 and d.public_id = $2"#,
        did.as_str(),
        device.as_str()
    )
    .fetch_optional(pool)
    .await?)
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

/// Moves read positions forward; the positions afterwards, by account and stream. No pair comes twice.
pub(super) async fn advance_read_positions<'a>(
    pool: &PgPool,
    wishes: impl Iterator<Item = &'a Advance>,
) -> Result<HashMap<(i64, i64), Seq>, Error> {
    let (mut accounts, mut streams, mut seqs, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for wish in wishes {
        accounts.push(wish.account_id);
        streams.push(wish.stream_id);
        seqs.push(wish.seq.to_db());
        times.push(wish.now);
    }
    let rows = sqlx::query!(
        r#"with wish as materialized (
               select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[])
                   n (account_id, stream_id, seq, now)
           ), moved as (
               -- In one order, so that two instances never wait for each other in a circle.
               insert into read_position (account_id, stream_id, seq, updated_at)
               select account_id, stream_id, seq, now from wish order by account_id, stream_id
               on conflict (account_id, stream_id)
               do update set seq = excluded.seq, updated_at = excluded.updated_at
               where read_position.seq < excluded.seq
           )
           select wish.account_id as "account_id!", wish.stream_id as "stream_id!", greatest(wish.seq, r.seq) as "seq!"
           from wish
           left join lateral (
               select seq from read_position p
               where p.account_id = wish.account_id and p.stream_id = wish.stream_id limit 1
           ) r on true"#,
        &accounts,
        &streams,
        &seqs,
        &times
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.account_id, row.stream_id), Seq::from_db(row.seq))).collect())
}
