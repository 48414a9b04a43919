//! SQL on accounts and devices.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::lexicon::account::defs;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, DeviceId, Did, UnixMillis};

pub(super) async fn find_account_stream(executor: impl PgExecutor<'_>, did: &Did) -> Result<Option<i64>, Error> {
    let stream_id = sqlx::query_scalar!("select stream_id from account where did = $1", did.as_str());
    Ok(stream_id.fetch_optional(executor).await?.flatten())
}

pub(super) async fn stream_of_account(pool: &PgPool, account_id: i64) -> Result<Option<i64>, Error> {
    let stream_id = sqlx::query_scalar!("select stream_id from account where id = $1", account_id);
    Ok(stream_id.fetch_optional(pool).await?.flatten())
}

pub(super) async fn find_account(pool: &PgPool, did: &Did) -> Result<Option<i64>, Error> {
    Ok(sqlx::query_scalar!("select id from account where did = $1", did.as_str()).fetch_optional(pool).await?)
}

/// The account's row, and the public id of its stream.
pub(super) async fn find_public_stream(pool: &PgPool, did: &Did) -> Result<Option<(i64, String)>, Error> {
    let row = sqlx::query!(
        "select a.id, s.public_id from account a join stream s on s.id = a.stream_id where a.did = $1",
        did.as_str()
    );
    Ok(row.fetch_optional(pool).await?.map(|row| (row.id, row.public_id)))
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
    Ok(sqlx::query_scalar!(
        "insert into account (did, created_at) values ($1, $2)
         on conflict (did) do update set created_at = excluded.created_at returning id",
        did.as_str(),
        now
    )
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
    pub device: DeviceId,
    pub public_key: Vec<u8>,
    pub state: String,
}

pub(super) async fn find_device(executor: impl PgExecutor<'_>, public_id: &str) -> Result<Option<KnownDevice>, Error> {
    let row = sqlx::query!(
        "select id, account_id, public_key, state from device where public_id = $1 and state <> 'foreign'",
        public_id
    )
    .fetch_optional(executor)
    .await?;
    row.map(|row| {
        Ok(KnownDevice {
            id: row.id,
            account_id: row.account_id,
            device: DeviceId::parse(public_id).map_err(|_| Error::Corrupt("device.public_id"))?,
            public_key: row.public_key,
            state: row.state,
        })
    })
    .transpose()
}

pub(super) struct DeviceCount {
    /// Not revoked.
    pub standing: i64,
    pub certified: i64,
    pub in_all: i64,
}

pub(super) async fn count_devices(conn: &mut PgConnection, account_id: i64) -> Result<DeviceCount, Error> {
    Ok(sqlx::query_as!(
        DeviceCount,
        r#"select count(*) filter (where state <> 'revoked') as "standing!",
                  count(*) filter (where state = 'certified') as "certified!", count(*) as "in_all!"
           from device where account_id = $1 and state <> 'foreign'"#,
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

pub(super) async fn insert_device(conn: &mut PgConnection, new: &NewDevice<'_>) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        // Another server may have spoken of it before: now it is known by its key.
        "insert into device (account_id, public_id, public_key, alg, kind, state, name, platform, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (account_id, public_id) do update set
             public_key = excluded.public_key, alg = excluded.alg, kind = excluded.kind, state = excluded.state,
             name = excluded.name, platform = excluded.platform, created_at = excluded.created_at
         where device.state = 'foreign'
         returning id",
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
    .fetch_one(conn)
    .await?)
}

/// Keys that may sign for a device from now on.
pub(super) async fn insert_keys(conn: &mut PgConnection, device_row: i64, keys: &[Vec<u8>]) -> Result<(), Error> {
    sqlx::query!(
        "insert into device_key (public_key, device_id) select key, $2 from unnest($1::bytea[]) n (key)",
        keys,
        device_row
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn certify_device(conn: &mut PgConnection, id: i64) -> Result<(), Error> {
    sqlx::query!("update device set state = 'certified' where id = $1", id).execute(conn).await?;
    Ok(())
}

/// Changes the given fields, and keeps the rest.
pub(super) async fn update_device(
    pool: &PgPool,
    id: i64,
    name: Option<&[u8]>,
    platform: Option<&str>,
) -> Result<(), Error> {
    sqlx::query!(
        "update device set name = coalesce($2, name), platform = coalesce($3, platform) where id = $1",
        id,
        name,
        platform
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Lists certified devices first, then those of the newest chain, then the newest; at most 600, which leaves room for a
/// whole chain.
pub(super) async fn list_devices(pool: &PgPool, account_id: i64) -> Result<Vec<defs::Device>, Error> {
    let rows = sqlx::query!(
        r#"select d.public_id, d.kind, d.state, d.public_key, d.alg, d.name, d.platform, d.created_at, d.last_seen_at,
                  d.revoked_at, c.bytes as "certificate?", r.bytes as "revocation?",
                  array(
                      select k.public_key from device_key k
                      where k.device_id = d.id and k.public_key <> d.public_key order by k.public_key
                  ) as "mls_keys!: Vec<Vec<u8>>"
           from device d
           left join device_link c on c.device_id = d.id and not c.revokes
           left join device_link r on r.device_id = d.id and r.revokes
           where d.account_id = $1 and d.state <> 'foreign' order by d.state = 'revoked', case when d.state = 'revoked' then c.generation end desc nulls last, d.id desc
           limit 600"#,
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
            alg: row.alg,
            mls_keys: (!row.mls_keys.is_empty()).then(|| row.mls_keys.into_iter().map(Bytes).collect()),
            certificate: row.certificate.map(Bytes),
            revocation: row.revocation.map(Bytes),
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
