//! SQL on the log's origin, and on what a restore makes doubtful.

use chrono::{DateTime, Utc};

use crate::log::{EntryKind, Error};
use crate::storage::{ClusterId, PgConnection};

pub(in crate::log) struct Origin {
    pub system_id: i64,
    pub timeline: i32,
    pub incarnation: i64,
    /// The row and Postgres disagree about the transaction that wrote the row: it was copied.
    pub copied: bool,
    pub service_did: Option<String>,
}

/// Excludes every writer and every reader of positions until the transaction ends.
pub(in crate::log) async fn lock_origin(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("lock table log_origin in access exclusive mode").execute(conn).await?;
    Ok(())
}

pub(in crate::log) async fn find_origin(conn: &mut PgConnection) -> Result<Option<Origin>, Error> {
    // Freezing keeps the raw xmin, 32 bits of the id.
    Ok(sqlx::query_as!(
        Origin,
        r#"select system_id, timeline, incarnation, service_did,
                  (written_in & 4294967295) <> xmin::text::bigint as "copied!"
           from log_origin"#
    )
    .fetch_optional(conn)
    .await?)
}

pub(in crate::log) async fn insert_origin(
    conn: &mut PgConnection,
    cluster: ClusterId,
    incarnation: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into log_origin (base, system_id, timeline, incarnation, written_in)
         values (0, $1, $2, $3, pg_current_xact_id()::text::bigint)",
        cluster.system_id,
        cluster.timeline,
        incarnation
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Binds the database to a server, if the row names none yet.
pub(in crate::log) async fn name_server(conn: &mut PgConnection, server: &str) -> Result<(), Error> {
    sqlx::query!(
        "update log_origin set service_did = $1, written_in = pg_current_xact_id()::text::bigint
         where service_did is null",
        server
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The number of transactions between the oldest and the newest row of this database, and the next position.
pub(in crate::log) struct Distance {
    pub oldest_row_age: i32,
    pub next_pos: Option<i64>,
}

pub(in crate::log) async fn distance(conn: &mut PgConnection) -> Result<Distance, Error> {
    Ok(sqlx::query_as!(
        Distance,
        r#"select age(datfrozenxid) as "oldest_row_age!",
                  (select base + (pg_snapshot_xmax(pg_current_snapshot())::text::bigint << 10) from log_origin)
                      as next_pos
           from pg_database where datname = current_database()"#
    )
    .fetch_one(conn)
    .await?)
}

/// The greatest stored position, and the incarnation, as the rollback guard stores them.
pub(in crate::log) struct Reached {
    pub pos: i64,
    pub incarnation: i64,
}

pub(in crate::log) async fn reached(conn: &mut PgConnection) -> Result<Reached, Error> {
    Ok(sqlx::query_as!(
        Reached,
        r#"select coalesce((select max(pos) from entry), 0) as "pos!", incarnation from log_origin"#
    )
    .fetch_one(conn)
    .await?)
}

/// The clock of Postgres, in Unix milliseconds.
pub(in crate::log) async fn clock_ms(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(r#"select (extract(epoch from clock_timestamp()) * 1000)::bigint as "ms!""#)
        .fetch_one(conn)
        .await?)
}

/// Positions go on beyond everything that may have been handed out: what is stored, what this cluster's transactions
/// would get, and what the watermark saw. Answers the greatest position that is stored.
pub(in crate::log) async fn raise_origin(
    conn: &mut PgConnection,
    step: i64,
    seen: i64,
    cluster: ClusterId,
    incarnation: i64,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!(
        r#"with stored as (
               select pos, created_at from entry order by pos desc limit 1
           ), origin as (
               update log_origin set
                   base = greatest(
                       coalesce((select pos from stored), 0),
                       base + (pg_current_xact_id()::text::bigint << 10),
                       $2
                   ) + $1,
                   system_id = $3, timeline = $4, incarnation = $5,
                   written_in = pg_current_xact_id()::text::bigint
               returning base
           )
           insert into log_restore (incarnation, reason, restored_pos, base, restored_to, created_at)
           select $5, $6, coalesce((select pos from stored), 0), base,
                  coalesce((select created_at from stored), $7), $7
           from origin
           returning restored_pos"#,
        step,
        seen,
        cluster.system_id,
        cluster.timeline,
        incarnation,
        reason,
        now
    )
    .fetch_one(conn)
    .await?)
}

/// When the newest entry that a restore left to a stream of that incarnation was ordered, in the whole log.
pub(in crate::log) async fn restored_to(conn: &mut PgConnection, after: i64) -> Result<Option<DateTime<Utc>>, Error> {
    Ok(sqlx::query_scalar!(
        r#"select min(restored_to) as "restored_to" from log_restore where incarnation > $1"#,
        after
    )
    .fetch_one(conn)
    .await?)
}

/// Makes unreachable followers due again, because they may hold entries that were lost here. One row for each such
/// server.
pub(in crate::log) async fn forgive_followers(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("delete from follower_peer").execute(conn).await?;
    Ok(())
}

/// Stops a stream of this home until its followers were asked for entries that a restore lost, if it has followers from
/// before the restore that were not asked yet. Answers whether it stopped.
pub(in crate::log) async fn begin_recovery_of(
    conn: &mut PgConnection,
    stream_id: i64,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    Ok(begin_recoveries(conn, Some(stream_id), 1, now).await? > 0)
}

/// Stops the next streams, at most `limit`, whose followers were not asked yet. Answers how many.
pub(in crate::log) async fn ask_followers(
    conn: &mut PgConnection,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    begin_recoveries(conn, None, limit, now).await
}

async fn begin_recoveries(
    conn: &mut PgConnection,
    only: Option<i64>,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let streams = sqlx::query_scalar!(
        r#"with unasked as (
               select s.id, s.state, o.incarnation
               from log_origin o
               join log_restore r on r.incarnation = o.incarnation
               join stream s on s.asked_incarnation < o.incarnation
               where ($1::bigint is null or s.id = $1)
                 and exists (select 1 from follower f where f.stream_id = s.id and f.created_at <= r.created_at)
               order by s.id limit $2 for no key update of s
           ), asked as (
               update stream s set
                   asked_incarnation = u.incarnation,
                   state = case when s.state = 0 then 1 else s.state end,
                   rules = s.rules + case when s.state = 0 then 1 else 0 end
               from unasked u where u.id = s.id
               returning s.id, s.state
           ), begun as (
               insert into recovery (stream_id, begun_at, due_at)
               select id, $3, $3 from asked where state = 1
               on conflict (stream_id) do update set begun_at = excluded.begun_at, due_at = excluded.due_at
           ), retried as (
               update follower f set due_at = $3, leased_until = null, failures = 0, failing_since = null
               from asked a where a.id = f.stream_id
           )
           select count(*) as "streams!" from asked"#,
        only,
        limit,
        now
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(streams).unwrap_or_default())
}

/// Makes the homes of the next followed streams due to be asked to continue from our head. Answers how many.
pub(in crate::log) async fn ask_homes(conn: &mut PgConnection, limit: i64, now: DateTime<Utc>) -> Result<u64, Error> {
    let asked = sqlx::query!(
        "update replica set follow_due_at = $2, follow_failures = 0, stops = 0, asked_incarnation = n.incarnation
         from (
             select p.stream_id, o.incarnation
             from log_origin o
             join log_restore r on r.incarnation = o.incarnation
             join replica p on p.asked_incarnation < o.incarnation and p.created_at <= r.created_at
             where p.ended_at is null
             order by p.stream_id limit $1
         ) n
         where replica.stream_id = n.stream_id",
        limit,
        now
    )
    .execute(conn)
    .await?;
    Ok(asked.rows_affected())
}

/// Deletes the next one-time key packages of an earlier incarnation, which the server never hands out since a claim in
/// the lost span may have taken them, and queues a notice for each account that had some. Answers how many.
pub(in crate::log) async fn delete_doubtful_key_packages(
    conn: &mut PgConnection,
    notice: &[u8],
    limit: i64,
    now: DateTime<Utc>,
) -> Result<u64, Error> {
    let deleted = sqlx::query_scalar!(
        r#"with doubtful as (
               select id from key_package
               where incarnation < (select incarnation from log_origin)
                 and not last_resort and claimed_at is null and retired_at is null
               order by incarnation, account_id limit $3 for update skip locked
           ), deleted as (
               delete from key_package k using doubtful d where k.id = d.id returning k.account_id
           ), told as (
               insert into outbox (account_id, kind, body, created_at)
               select distinct d.account_id, $1::smallint, $2::bytea, $4::timestamptz from deleted d
               where not exists (select 1 from outbox o where o.account_id = d.account_id and o.kind = $1)
           )
           select count(*) as "deleted!" from deleted"#,
        EntryKind::KeyPackagesLow.to_db(),
        notice,
        limit,
        now
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(deleted).unwrap_or_default())
}
