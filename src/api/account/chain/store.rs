//! SQL on device chains, and on the accounts that are notified of their changes.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::identity::{ChainHead, DeviceLink};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Hash;

/// The links of the account's newest chain, in order.
pub(super) async fn links(pool: &PgPool, account_id: i64) -> Result<Vec<DeviceLink>, Error> {
    let rows = sqlx::query_scalar!(
        "select bytes from device_link
         where account_id = $1 and generation = (select max(generation) from device_link where account_id = $1)
         order by seq",
        account_id
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(|bytes| DeviceLink::decode(bytes).map_err(|_| Error::Corrupt("device_link.bytes"))).collect()
}

/// Where the account's newest chain ends.
pub(in crate::api::account) async fn find_head(
    executor: impl PgExecutor<'_>,
    account_id: i64,
) -> Result<Option<ChainHead>, Error> {
    let row = sqlx::query!(
        "select generation, seq, hash from device_link where account_id = $1
         order by generation desc, seq desc limit 1",
        account_id
    )
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(ChainHead {
            generation: u32::try_from(row.generation).unwrap_or_default(),
            seq: u64::try_from(row.seq).unwrap_or_default(),
            hash: Hash::from_slice(&row.hash).ok_or(Error::Corrupt("device_link.hash"))?,
        })
    })
    .transpose()
}

/// Whether this very link ended this device before.
pub(in crate::api::account) async fn was_ended_by(pool: &PgPool, device_row: i64, bytes: &[u8]) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from device_link where device_id = $1 and revokes and bytes = $2) as "was_ended!""#,
        device_row,
        bytes
    )
    .fetch_one(pool)
    .await?)
}

pub(super) struct NewLink<'a> {
    pub account_id: i64,
    pub head: ChainHead,
    pub device_row: i64,
    pub revokes: bool,
    pub bytes: &'a [u8],
    pub now: DateTime<Utc>,
}

pub(super) async fn insert_link(conn: &mut PgConnection, new: &NewLink<'_>) -> Result<(), Error> {
    sqlx::query!(
        "insert into device_link (account_id, generation, seq, device_id, revokes, bytes, hash, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.account_id,
        i32::try_from(new.head.generation).unwrap_or(i32::MAX),
        i32::try_from(new.head.seq).unwrap_or(i32::MAX),
        new.device_row,
        new.revokes,
        new.bytes,
        new.head.hash.as_slice(),
        new.now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The times since then at which the account began a new chain, in order.
pub(super) async fn chains_begun(
    conn: &mut PgConnection,
    account_id: i64,
    since: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar!(
        "select created_at from device_link
         where account_id = $1 and seq = 1 and generation > 1 and created_at > $2 order by generation",
        account_id,
        since
    )
    .fetch_all(conn)
    .await?)
}

/// Deletes revoked devices without any reference: those that were never in a chain, and those of earlier chains that
/// were revoked before that time. Answers how many.
pub(super) async fn forget_revoked(
    conn: &mut PgConnection,
    account_id: i64,
    before: DateTime<Utc>,
) -> Result<i64, Error> {
    let forgotten = sqlx::query!(
        "with gone as materialized (
             select d.id from device d
             where d.account_id = $1 and d.state = 'revoked'
               and (
                   not exists (select 1 from device_link l where l.device_id = d.id)
                   or d.revoked_at < $2 and not exists (
                       select 1 from device_link l where l.device_id = d.id and l.generation = (
                           select max(n.generation) from device_link n where n.account_id = $1
                       )
                   )
               )
               and not exists (select 1 from seat_device r where r.device_id = d.id)
               and not exists (select 1 from leaf_key r where r.device_id = d.id)
               and not exists (select 1 from welcome_pointer r where r.device_id = d.id)
               and not exists (select 1 from answer r where r.device_id = d.id)
               and not exists (select 1 from ticket r where r.device_id = d.id)
               and not exists (select 1 from pairing r where r.device_id = d.id)
               and not exists (
                   select 1 from key_package_claim r join key_package k on k.id = r.key_package_id
                   where k.device_id = d.id
               )
         ), links as (
             delete from device_link l using gone where l.device_id = gone.id
         ), keys as (
             delete from device_key k using gone where k.device_id = gone.id
         ), packages as (
             delete from key_package p using gone where p.device_id = gone.id
         )
         delete from device d using gone where d.id = gone.id",
        account_id,
        before
    )
    .execute(conn)
    .await?;
    Ok(i64::try_from(forgotten.rows_affected()).unwrap_or(i64::MAX))
}

/// Accounts with a stream here that share an open seat in any stream with this account. A conversation whose invitation
/// the account has not accepted does not count: strangers may seat any account.
pub(super) async fn sharing_a_stream(conn: &mut PgConnection, account_id: i64, limit: i64) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select distinct other.account_id from seat mine
         join seat other on other.stream_id = mine.stream_id and other.until_seq is null and not other.held
         join account a on a.id = other.account_id and a.stream_id is not null
         where mine.account_id = $1 and mine.until_seq is null and not mine.held and other.account_id <> $1
         order by other.account_id limit $2",
        account_id,
        limit
    )
    .fetch_all(conn)
    .await?)
}

/// Other accounts with a stream here that have an open seat in a stream where this device has a leaf.
pub(super) async fn sharing_with_device(
    conn: &mut PgConnection,
    device_row: i64,
    limit: i64,
) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select distinct s.account_id from seat_device l
         join seat s on s.stream_id = l.stream_id and s.until_seq is null and not s.held
             and s.account_id <> l.account_id
         join account a on a.id = s.account_id and a.stream_id is not null
         where l.device_id = $1 and l.until_seq is null
         order by s.account_id limit $2",
        device_row,
        limit
    )
    .fetch_all(conn)
    .await?)
}
