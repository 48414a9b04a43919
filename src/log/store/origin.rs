//! SQL on the log's origin, and on what a restore makes doubtful.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::log::{EntryKind, Error};
use crate::storage::ClusterId;

pub(in crate::log) struct Origin {
    pub system_id: i64,
    pub timeline: i32,
    pub incarnation: i64,
}

pub(in crate::log) async fn lock_origin(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!("lock table log_origin in access exclusive mode").execute(conn).await?;
    Ok(())
}

pub(in crate::log) async fn find_origin(conn: &mut PgConnection) -> Result<Option<Origin>, Error> {
    Ok(sqlx::query_as!(Origin, "select system_id, timeline, incarnation from log_origin").fetch_optional(conn).await?)
}

pub(in crate::log) async fn insert_origin(
    conn: &mut PgConnection,
    cluster: ClusterId,
    incarnation: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into log_origin (base, system_id, timeline, incarnation) values (0, $1, $2, $3)",
        cluster.system_id,
        cluster.timeline,
        incarnation
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The greatest position stored, and the incarnation: what the watermark holds.
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
                   system_id = $3, timeline = $4, incarnation = $5
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

/// What followers hold may be what was lost here, and what this server follows may go on from another place: streams of
/// ours that somebody follows stop until they were asked, and the homes of the others are asked again.
pub(in crate::log) async fn ask_others(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "insert into recovery (stream_id, begun_at, due_at)
         select f.stream_id, $1, $1 from follower f join stream s on s.id = f.stream_id
         where s.state in (0, 1) group by f.stream_id
         on conflict (stream_id) do update set begun_at = excluded.begun_at, due_at = excluded.due_at",
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update stream set state = 1, rules = rules + 1
         where state = 0 and id in (select stream_id from recovery)"
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("update follower set due_at = $1, leased_until = null, failures = 0, failing_since = null", now)
        .execute(&mut *conn)
        .await?;
    sqlx::query!("delete from follower_peer").execute(&mut *conn).await?;
    sqlx::query!(
        "update replica set follow_due_at = $1, follow_failures = 0 where ended_at is null and stopped_by is null",
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One-time key packages may have been handed out in the lost span, and must not be handed out twice: takes all of them
/// back, and queues a notice for each account that had some. Answers how many packages, and how many accounts.
pub(in crate::log) async fn retire_key_packages(
    conn: &mut PgConnection,
    notice: &[u8],
    now: DateTime<Utc>,
) -> Result<(i64, i64), Error> {
    let counts = sqlx::query!(
        r#"with retired as (
               update key_package set retired_at = $3
               where not last_resort and claimed_at is null and retired_at is null
               returning account_id
           ), told as (
               insert into outbox (account_id, kind, body, created_at)
               select distinct account_id, $1::smallint, $2::bytea, $3 from retired
               returning 1
           )
           select (select count(*) from retired) as "packages!", (select count(*) from told) as "accounts!""#,
        EntryKind::KeyPackagesLow.to_db(),
        notice,
        now
    )
    .fetch_one(conn)
    .await?;
    Ok((counts.packages, counts.accounts))
}
