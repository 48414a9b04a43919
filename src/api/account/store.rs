//! SQL on accounts and devices.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::lexicon::account::defs;
use crate::storage::Error;
use crate::types::{Bytes, Did, UnixMillis};

pub(super) async fn find_account_stream(executor: impl PgExecutor<'_>, did: &Did) -> Result<Option<i64>, Error> {
    let stream_id = sqlx::query_scalar!("select stream_id from account where did = $1", did.as_str());
    Ok(stream_id.fetch_optional(executor).await?.flatten())
}

pub(super) async fn stream_of_account(pool: &PgPool, account_id: i64) -> Result<Option<i64>, Error> {
    let stream_id = sqlx::query_scalar!("select stream_id from account where id = $1", account_id);
    Ok(stream_id.fetch_optional(pool).await?.flatten())
}

/// Lets one of several first registrations of an account go first; the others hold no transaction id meanwhile.
pub(super) async fn lock_account(conn: &mut PgConnection, did: &Did) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended($1, 0))", did.as_str()).execute(conn).await?;
    Ok(())
}

pub(super) async fn account_id(conn: &mut PgConnection, did: &Did) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("select id from account where did = $1", did.as_str()).fetch_one(conn).await?)
}

pub(super) async fn insert_account(conn: &mut PgConnection, did: &Did, now: DateTime<Utc>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("insert into account (did, created_at) values ($1, $2) returning id", did.as_str(), now)
        .fetch_one(conn)
        .await?)
}

pub(super) async fn set_account_stream(conn: &mut PgConnection, account_id: i64, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update account set stream_id = $2 where id = $1", account_id, stream_id).execute(conn).await?;
    Ok(())
}

pub(super) struct KnownDevice {
    pub id: i64,
    pub account_id: i64,
    pub public_key: Vec<u8>,
    pub state: String,
}

pub(super) async fn find_device(conn: &mut PgConnection, public_id: &str) -> Result<Option<KnownDevice>, Error> {
    Ok(sqlx::query_as!(
        KnownDevice,
        "select id, account_id, public_key, state from device where public_id = $1",
        public_id
    )
    .fetch_optional(conn)
    .await?)
}

/// Its account vouched for it again.
pub(super) async fn see_device(conn: &mut PgConnection, id: i64, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update device set last_seen_at = $2 where id = $1", id, now).execute(conn).await?;
    Ok(())
}

pub(super) struct DeviceCount {
    /// Not revoked.
    pub standing: i64,
    pub ever: i64,
}

pub(super) async fn count_devices(conn: &mut PgConnection, account_id: i64) -> Result<DeviceCount, Error> {
    Ok(sqlx::query_as!(
        DeviceCount,
        r#"select count(*) filter (where state <> 'revoked') as "standing!", count(*) as "ever!"
           from device where account_id = $1"#,
        account_id
    )
    .fetch_one(conn)
    .await?)
}

pub(super) struct NewDevice<'a> {
    pub account_id: i64,
    pub public_id: &'a str,
    pub public_key: &'a [u8],
    pub alg: &'a str,
    pub kind: &'a str,
    pub state: &'a str,
    pub name: Option<&'a [u8]>,
    pub platform: Option<&'a str>,
    pub now: DateTime<Utc>,
}

pub(super) async fn insert_device(conn: &mut PgConnection, new: &NewDevice<'_>) -> Result<(), Error> {
    sqlx::query!(
        "insert into device (account_id, public_id, public_key, alg, kind, state, name, platform, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.account_id,
        new.public_id,
        new.public_key,
        new.alg,
        new.kind,
        new.state,
        new.name,
        new.platform,
        new.now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Newest first; at most 200, far beyond what an account can have standing.
pub(super) async fn list_devices(pool: &PgPool, account_id: i64) -> Result<Vec<defs::Device>, Error> {
    let rows = sqlx::query!(
        "select public_id, kind, state, public_key, name, platform, created_at, last_seen_at, revoked_at
         from device where account_id = $1 order by id desc limit 200",
        account_id
    )
    .fetch_all(pool)
    .await?;
    let time = |time: DateTime<Utc>| UnixMillis::from(time).to_rfc3339();
    Ok(rows
        .into_iter()
        .map(|row| defs::Device {
            device: row.public_id,
            kind: row.kind,
            state: row.state,
            public_key: Bytes(row.public_key),
            name: row.name.map(Bytes),
            platform: row.platform,
            created_at: time(row.created_at),
            last_seen_at: row.last_seen_at.map(time),
            revoked_at: row.revoked_at.map(time),
        })
        .collect())
}

/// The device and its key packages, in one transaction.
pub(super) async fn revoke_device(conn: &mut PgConnection, id: i64, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update device set state = 'revoked', revoked_at = $2 where id = $1", id, now)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("update key_package set retired_at = $2 where device_id = $1 and retired_at is null", id, now)
        .execute(conn)
        .await?;
    Ok(())
}
