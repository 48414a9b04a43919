//! SQL on key packages and their claims.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::purpose::Purpose;
use crate::lexicon::mls::{get_key_package_status, get_key_packages};
use crate::log::Author;
use crate::mls::CheckedKeyPackage;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

/// A pool should hold this many packages, and is low below the second figure.
const POOL_TARGET: u64 = 50;
const POOL_LOW_WATER: u64 = 10;

pub(super) enum Stored {
    Inserted,
    PoolFull,
}

/// Lets one package enter a device's pools at a time, so that each counts those before it.
async fn lock_pools(conn: &mut PgConnection, device_row: i64) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('pools of ' || $1::bigint, 0))", device_row)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds a package to its pool, if the pool has room. A new last-resort package takes the old one's place; Welcomes that
/// are on their way with the old one still find it.
pub(super) async fn insert(
    pool: &PgPool,
    author: &Author,
    package: &CheckedKeyPackage,
    pool_packages: i64,
    now: DateTime<Utc>,
) -> Result<Stored, Error> {
    let mut tx = pool.begin().await?;
    lock_pools(tx.conn(), author.device_row).await?;
    let inserted = sqlx::query_scalar!(
        "insert into key_package
             (account_id, device_id, cipher_suite, ref, init_key_hash, bytes, last_resort, expires_at, created_at,
              incarnation)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, o.incarnation from log_origin o
         where $7 or (
             select count(*) from key_package k
             where k.device_id = $2 and k.cipher_suite = $3 and not k.last_resort and k.claimed_at is null
               and k.retired_at is null and k.expires_at > $9 and k.incarnation = o.incarnation
         ) < $10
         returning id",
        author.account_id,
        author.device_row,
        i32::from(package.cipher_suite),
        &package.reference,
        package.init_key_hash.as_slice(),
        &package.bytes,
        package.last_resort,
        package.expires_at.to_datetime(),
        now,
        pool_packages
    )
    .fetch_optional(tx.conn())
    .await?;
    let Some(id) = inserted else { return Ok(Stored::PoolFull) };
    if package.last_resort {
        sqlx::query!(
            "update key_package set retired_at = $4
             where device_id = $1 and cipher_suite = $2 and last_resort and id < $3 and retired_at is null",
            author.device_row,
            i32::from(package.cipher_suite),
            id,
            now
        )
        .execute(tx.conn())
        .await?;
    }
    tx.commit().await?;
    Ok(Stored::Inserted)
}

/// Lets one claim of an account go first, so that the next counts what it took. Waiters hold no transaction id.
pub(super) async fn lock_claimer(conn: &mut PgConnection, claimer_id: i64) -> Result<(), Error> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('claims of ' || $1::bigint, 0))", claimer_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Serializes claims on each target by strangers and servers, since their limits count each other's claims.
pub(super) async fn lock_targets(conn: &mut PgConnection, targets: &[Did]) -> Result<(), Error> {
    // In order, so that two never wait for each other in a circle.
    let ordered: BTreeSet<&Did> = targets.iter().collect();
    for target in ordered {
        sqlx::query!("select pg_advisory_xact_lock(hashtextextended('claims for ' || $1::text, 0))", target.as_str())
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// From where a claim comes.
pub(super) enum Asker {
    Ours,
    /// Another server, for one of its accounts; `allowed` by name, or not.
    Server {
        did: Did,
        allowed: bool,
    },
}

/// An account that is asked for, and how many one-time packages were taken of it in the last day.
pub(super) struct Target {
    pub account_id: i64,
    pub did: String,
    /// Devices that may each get one package.
    pub devices: i64,
    /// The inviter is the account itself, or one of its contacts.
    pub is_known: bool,
    pub taken_by_inviter: i64,
    /// For accounts of the same server.
    pub taken_by_server: i64,
    /// By all servers that were not allowed by name.
    pub taken_by_servers: i64,
    /// One-time packages claimed by all accounts of this server that are no contacts of the target.
    pub taken_by_strangers: i64,
}

/// The accounts with a certified device here that are not suspended.
pub(super) async fn targets(
    conn: &mut PgConnection,
    accounts: &[Did],
    claimer: &Author,
    asker: &Asker,
    seen_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Target>, Error> {
    let server = match asker {
        Asker::Ours => None,
        Asker::Server { did, .. } => Some(did.as_str()),
    };
    let dids: Vec<String> = accounts.iter().map(Did::to_string).collect();
    Ok(sqlx::query_as!(
        Target,
        r#"select a.id as account_id, a.did, (
               select count(*) from device d
               where d.account_id = a.id and d.state = 'certified' and coalesce(d.last_seen_at, d.created_at) >= $6
           ) as "devices!", a.id = $2 or exists (
               select 1 from relationship r where r.account_id = a.id and r.other = $5 and r.state = 3
           ) as "is_known!", (
               select count(*) from key_package_claim c
               where c.claimer_id = $2 and c.target_id = a.id and c.one_time and c.created_at > $3
           ) as "taken_by_inviter!", (
               select count(*) from key_package_claim c
               where c.peer = $4 and c.target_id = a.id and c.one_time and c.created_at > $3
           ) as "taken_by_server!", (
               select count(*) from key_package_claim c
               where c.peer is not null and c.outside and c.target_id = a.id and c.one_time and c.created_at > $3
           ) as "taken_by_servers!", (
               select count(*) from key_package_claim c
               where c.peer is null and c.outside and c.target_id = a.id and c.one_time and c.created_at > $3
           ) as "taken_by_strangers!"
           from account a
           where a.did = any($1) and a.suspended_at is null and exists (
               select 1 from device d where d.account_id = a.id and d.state = 'certified'
           )"#,
        &dids,
        claimer.account_id,
        now - TimeDelta::days(1),
        server,
        claimer.did.as_str(),
        seen_since
    )
    .fetch_all(conn)
    .await?)
}

/// A package that was handed out.
pub(super) struct Claimed {
    pub id: i64,
    pub account_id: i64,
    pub device: String,
    pub cipher_suite: i32,
    pub reference: Vec<u8>,
    pub bytes: Vec<u8>,
    pub last_resort: bool,
}

/// One package for each certified device of the targets that was seen since `seen_since`, of the first suite that has one: a one-time package, which
/// nobody else can take at the same moment, otherwise the last-resort one.
pub(super) async fn claim(
    conn: &mut PgConnection,
    targets: &[Target],
    one_time: impl Fn(&Target) -> bool,
    suites: &[i32],
    seen_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<Claimed>, Error> {
    let all: Vec<i64> = targets.iter().map(|target| target.account_id).collect();
    let generous: Vec<i64> = targets.iter().filter(|target| one_time(target)).map(|target| target.account_id).collect();
    let mut claimed = sqlx::query_as!(
        Claimed,
        r#"update key_package k set claimed_at = $3
           from device d
           cross join lateral (
               select p.id from key_package p
               where p.device_id = d.id and p.cipher_suite = any($2) and not p.last_resort
                 and p.claimed_at is null and p.retired_at is null and p.expires_at > $3
                 and p.incarnation = (select incarnation from log_origin)
               order by array_position($2, p.cipher_suite), p.id
               limit 1 for no key update skip locked
           ) free
           where d.account_id = any($1) and d.state = 'certified' and k.id = free.id
             and coalesce(d.last_seen_at, d.created_at) >= $4
           returning k.id, k.account_id, d.public_id as device, k.cipher_suite, k.ref as reference, k.bytes,
                     k.last_resort"#,
        &generous,
        suites,
        now,
        seen_since
    )
    .fetch_all(&mut *conn)
    .await?;
    let served: Vec<String> = claimed.iter().map(|one| one.device.clone()).collect();
    // Without a lock: all claims may use the last-resort package at once.
    let rest = sqlx::query_as!(
        Claimed,
        r#"select p.id as "id!", p.account_id as "account_id!", d.public_id as device,
                  p.cipher_suite as "cipher_suite!", p.ref as "reference!", p.bytes as "bytes!",
                  p.last_resort as "last_resort!"
           from device d
           cross join lateral (
               select * from key_package p
               where p.device_id = d.id and p.cipher_suite = any($2) and p.last_resort and p.retired_at is null
                 and p.expires_at > $4
               order by array_position($2, p.cipher_suite), p.id desc
               limit 1
           ) p
           where d.account_id = any($1) and d.state = 'certified' and d.public_id <> all($3)
             and coalesce(d.last_seen_at, d.created_at) >= $5"#,
        &all,
        suites,
        &served,
        now,
        seen_since
    )
    .fetch_all(conn)
    .await?;
    claimed.extend(rest);
    claimed.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(claimed)
}

/// The packages of these rows, as the claim handed them out.
pub(super) async fn find_claimed(pool: &PgPool, ids: &[i64]) -> Result<Vec<Claimed>, Error> {
    Ok(sqlx::query_as!(
        Claimed,
        "select p.id, p.account_id, d.public_id as device, p.cipher_suite, p.ref as reference, p.bytes, p.last_resort
         from key_package p join device d on d.id = p.device_id where p.id = any($1)",
        ids
    )
    .fetch_all(pool)
    .await?)
}

/// Binds the packages to the stream of their claim. `strangers`: the targets that do not have the claimer as a contact.
pub(super) async fn insert_claims(
    conn: &mut PgConnection,
    claimed: &[Claimed],
    strangers: &[i64],
    claimer_id: i64,
    purpose: &Purpose,
    asker: &Asker,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let server = match asker {
        Asker::Ours => None,
        Asker::Server { did, .. } => Some(did.as_str()),
    };
    let is_outside = |one: &Claimed| match asker {
        Asker::Ours => strangers.contains(&one.account_id),
        Asker::Server { allowed, .. } => !allowed,
    };
    let outside: Vec<bool> = claimed.iter().map(is_outside).collect();
    let ids: Vec<i64> = claimed.iter().map(|one| one.id).collect();
    let accounts: Vec<i64> = claimed.iter().map(|one| one.account_id).collect();
    let one_time: Vec<bool> = claimed.iter().map(|one| !one.last_resort).collect();
    sqlx::query!(
        "insert into key_package_claim
             (key_package_id, target_id, one_time, claimer_id, stream_id, created_at, stream, home, peer, outside)
         select id, target, one_time, $4, $5, $6, $7, $8, $9, outside
         from unnest($1::bigint[], $2::bigint[], $3::boolean[], $10::boolean[]) n (id, target, one_time, outside)",
        &ids,
        &accounts,
        &one_time,
        claimer_id,
        purpose.stream_id,
        now,
        purpose.stream,
        purpose.home.as_str(),
        server,
        &outside
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The rows of the accounts that are registered here and not suspended.
pub(super) async fn account_ids(pool: &PgPool, accounts: &[Did]) -> Result<Vec<i64>, Error> {
    let dids: Vec<String> = accounts.iter().map(Did::to_string).collect();
    Ok(sqlx::query_scalar!("select id from account where did = any($1) and suspended_at is null", &dids)
        .fetch_all(pool)
        .await?)
}

/// The claimable packages, by account, certified device that has not lapsed, and suite.
pub(super) async fn list_available(
    pool: &PgPool,
    account_ids: &[i64],
    seen_since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<get_key_packages::Account>, Error> {
    let rows = sqlx::query!(
        r#"select a.did, d.public_id, k.cipher_suite as "cipher_suite?", coalesce(k.available, 0) as "available!",
                  coalesce(k.last_resort, false) as "last_resort!"
           from account a
           join device d on d.account_id = a.id and d.state = 'certified'
               and coalesce(d.last_seen_at, d.created_at) >= $3
           left join lateral (
               select p.cipher_suite, count(*) filter (where not p.last_resort) as available,
                      bool_or(p.last_resort) as last_resort
               from key_package p
               where p.device_id = d.id and p.claimed_at is null and p.retired_at is null and p.expires_at > $2
                 and (p.last_resort or p.incarnation = (select incarnation from log_origin))
               group by p.cipher_suite
           ) k on true
           where a.id = any($1)
           order by a.did, d.public_id, k.cipher_suite"#,
        account_ids,
        now,
        seen_since
    )
    .fetch_all(pool)
    .await?;
    let mut found: Vec<get_key_packages::Account> = Vec::new();
    for row in rows {
        let did = Did::parse(&row.did).map_err(|_| Error::Corrupt("account.did"))?;
        if found.last().is_none_or(|last| last.account != did) {
            found.push(get_key_packages::Account { account: did, devices: Vec::new() });
        }
        let Some(account) = found.last_mut() else { continue };
        if account.devices.last().is_none_or(|last| last.device != row.public_id) {
            account.devices.push(get_key_packages::Device { device: row.public_id, cipher_suites: Vec::new() });
        }
        if let (Some(device), Some(suite)) = (account.devices.last_mut(), row.cipher_suite) {
            device.cipher_suites.push(get_key_packages::Suite {
                cipher_suite: u64::try_from(suite).unwrap_or_default(),
                available: u64::try_from(row.available).unwrap_or_default(),
                last_resort: row.last_resort,
            });
        }
    }
    Ok(found)
}

/// The device's own pools.
pub(super) async fn list_pools(
    pool: &PgPool,
    device_row: i64,
    now: DateTime<Utc>,
) -> Result<Vec<get_key_package_status::Pool>, Error> {
    let rows = sqlx::query!(
        r#"select cipher_suite,
                  count(*) filter (where not last_resort and claimed_at is null) as "available!",
                  count(*) filter (where not last_resort and claimed_at is not null) as "claimed!",
                  bool_or(last_resort) as "last_resort!"
           from key_package
           where device_id = $1 and retired_at is null and expires_at > $2
             and (last_resort or claimed_at is not null or incarnation = (select incarnation from log_origin))
           group by cipher_suite order by cipher_suite"#,
        device_row,
        now
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| get_key_package_status::Pool {
            cipher_suite: u64::try_from(row.cipher_suite).unwrap_or_default(),
            available: u64::try_from(row.available).unwrap_or_default(),
            claimed: u64::try_from(row.claimed).unwrap_or_default(),
            last_resort: row.last_resort,
            target: POOL_TARGET,
            low_water: POOL_LOW_WATER,
        })
        .collect())
}
