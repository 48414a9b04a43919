//! SQL of retention. Every statement is bounded; its caller holds the sweeper's lock.

use chrono::{DateTime, Utc};

use crate::log::Error;
use crate::storage::PgConnection;
use crate::types::{Seq, UnixMillis};

/// Whether this transaction may sweep. Held until its end; takes no transaction id, so it holds no reader back.
pub(in crate::log) async fn try_lock_sweeper(conn: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('sweeper of the log', 0)) as "locked!""#
    )
    .fetch_one(conn)
    .await?)
}

/// Positions of the next old entries.
pub(in crate::log) struct OldPage {
    pub after: i64,
    pub through: i64,
    pub full: bool,
}

/// The next entries, at most `limit`, that were made before `before`; the first younger entry ends the page. An entry
/// counts as old, whatever its date, if this server stored it before `before`. An entry dated after `now` has a wrong
/// time, counts as old as its neighbours, and ends no page. Reads below the horizon, because beyond it an older entry may
/// still appear.
pub(in crate::log) async fn old_page(
    conn: &mut PgConnection,
    job: i16,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Option<OldPage>, Error> {
    let row = sqlx::query!(
        r#"with mark as materialized (
               select pos, (select coalesce(max(log_age.pos), 0) from log_age where noted_at <= $2) as aged
               from log_sweep where job = $1
           ), page as materialized (
               select e.pos, e.created_at, e.created_at < $2 or e.pos <= mark.aged as old
               from mark cross join lateral (
                   select pos, created_at from entry
                   where entry.pos > mark.pos and entry.pos < (
                       select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin
                   )
                   order by entry.pos limit $3
               ) e
           ), young as (
               select min(pos) as pos from page where not old and created_at <= $4
           )
           select (select pos from mark) as "after!",
                  max(page.pos) filter (where page.old) as "through",
                  (select count(*) from page) as "count!",
                  (select pos from young) is not null as "ends!"
           from page cross join young where page.pos < coalesce(young.pos, 9223372036854775807)"#,
        job,
        before,
        limit,
        now
    )
    .fetch_one(conn)
    .await?;
    let full = row.count >= limit && !row.ends;
    Ok(row.through.map(|through| OldPage { after: row.after, through, full }))
}

/// Notes, once a day, up to where the log reaches, and forgets the notes that no term needs: `longest_ago` is the start of
/// the longest term. A clock that went back notes nothing, because its note would age younger entries; after a clock that
/// was ahead, entries age by their dates alone until the date of its note.
pub(in crate::log) async fn note_age(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    longest_ago: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into log_age (noted_at, pos)
         select $1::timestamptz, base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) - 1 from log_origin
         where not exists (select 1 from log_age where noted_at > $1::timestamptz - interval '1 day')",
        now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "delete from log_age where noted_at < (select max(noted_at) from log_age where noted_at <= $1)",
        longest_ago
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps erasures of messages waiting until this transaction has moved the mark of its job.
pub(in crate::log) async fn lock_mark(conn: &mut PgConnection, job: i16) -> Result<(), Error> {
    sqlx::query!("select pos from log_sweep where job = $1 for no key update", job).fetch_one(conn).await?;
    Ok(())
}

/// Contents that went.
pub(in crate::log) struct Aged {
    pub rows: u64,
    pub greatest: Option<i64>,
}

/// Counts the contents of messages of this span as freed. The mark of the job hides them from readers, and they go with
/// the partition of their week.
pub(in crate::log) async fn age_out_messages(
    conn: &mut PgConnection,
    after: i64,
    through: i64,
    kinds: &[i16],
) -> Result<Aged, Error> {
    let row = sqlx::query!(
        r#"with old as materialized (
               select e.pos, e.stream_id, e.author, e.content_bytes as bytes from entry e
               cross join lateral (
                   select 1 from content where content.week = e.week and content.pos = e.pos limit 1
               ) held
               where e.pos > $1 and e.pos <= $2 and e.kind = any($3)
           ), freed as (
               insert into stream_freed (stream_id, freed_bytes)
               select stream_id, sum(bytes) from old group by stream_id order by stream_id
               on conflict (stream_id) do update set freed_bytes = stream_freed.freed_bytes + excluded.freed_bytes
           ), freed_of_authors as (
               insert into account_usage (account_id, freed_bytes)
               select author, sum(bytes) from old where author is not null group by author order by author
               on conflict (account_id) do update set freed_bytes = account_usage.freed_bytes + excluded.freed_bytes
           )
           select count(*) as "count!", max(pos) as greatest from old"#,
        after,
        through,
        kinds
    )
    .fetch_one(conn)
    .await?;
    Ok(Aged { rows: u64::try_from(row.count).unwrap_or_default(), greatest: row.greatest })
}

/// Deletes the contents of notices of this span.
pub(in crate::log) async fn age_out_notices(
    conn: &mut PgConnection,
    after: i64,
    through: i64,
    kinds: &[i16],
) -> Result<Aged, Error> {
    let row = sqlx::query!(
        r#"with old as materialized (
               select pos, stream_id, author, content_bytes as bytes from entry
               where pos > $1 and pos <= $2 and kind = any($3)
           ), deleted as (
               delete from content c where c.week = 0 and c.pos = any(array(select pos from old)) returning c.pos
           ), gone as materialized (
               select old.* from deleted join old on old.pos = deleted.pos
           ), freed as (
               insert into stream_freed (stream_id, freed_bytes)
               select stream_id, sum(bytes) from gone group by stream_id order by stream_id
               on conflict (stream_id) do update set freed_bytes = stream_freed.freed_bytes + excluded.freed_bytes
           ), freed_of_authors as (
               insert into account_usage (account_id, freed_bytes)
               select author, sum(bytes) from gone where author is not null group by author order by author
               on conflict (account_id) do update set freed_bytes = account_usage.freed_bytes + excluded.freed_bytes
           )
           select count(*) as "count!", max(pos) as greatest from gone"#,
        after,
        through,
        kinds
    )
    .fetch_one(conn)
    .await?;
    Ok(Aged { rows: u64::try_from(row.count).unwrap_or_default(), greatest: row.greatest })
}

/// Deletes contents of backfilled entries of a week, which the passes over positions do not reach; how many.
pub(in crate::log) async fn delete_backfilled(conn: &mut PgConnection, week: i16, limit: i64) -> Result<u64, Error> {
    let deleted = sqlx::query_scalar!(
        r#"with old as materialized (
               select pos from content where week = $1 and pos < 0 order by pos limit $2
           ), deleted as (
               delete from content c where c.week = $1 and c.pos = any(array(select pos from old)) returning c.pos
           ), gone as materialized (
               select e.stream_id, e.content_bytes as bytes from deleted
               cross join lateral (
                   select stream_id, content_bytes from entry where entry.pos = deleted.pos limit 1
               ) e
           ), freed as (
               insert into stream_freed (stream_id, freed_bytes)
               select stream_id, sum(bytes) from gone group by stream_id order by stream_id
               on conflict (stream_id) do update set freed_bytes = stream_freed.freed_bytes + excluded.freed_bytes
           )
           select count(*) as "count!" from deleted"#,
        week,
        limit
    )
    .fetch_one(conn)
    .await?;
    Ok(u64::try_from(deleted).unwrap_or_default())
}

/// The job has done everything up to `through`, and contents up to `aged` went.
pub(in crate::log) async fn advance(
    conn: &mut PgConnection,
    job: i16,
    through: i64,
    aged: Option<i64>,
) -> Result<(), Error> {
    sqlx::query!(
        "update log_sweep set pos = greatest(pos, $2), aged_pos = greatest(aged_pos, $3) where job = $1",
        job,
        through,
        aged.unwrap_or_default()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A handshake that changes no seat was appended.
pub(in crate::log) async fn insert_ageing(
    conn: &mut PgConnection,
    stream_id: i64,
    seq: Seq,
    made: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into entry_ageing (stream_id, seq, created_at) values ($1, $2, $3)",
        stream_id,
        seq.to_db(),
        made.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes out contents of handshakes made before `before`, but of none that a device with a leaf there may still need:
/// one that was seen since `lapsed`, and not since the handshake was made.
pub(in crate::log) async fn age_out_handshakes(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    lapsed: DateTime<Utc>,
    limit: i64,
) -> Result<Aged, Error> {
    let row = sqlx::query!(
        r#"with due as (
               select a.stream_id, a.seq from entry_ageing a
               where a.created_at < $1 and not exists (
                   select 1 from seat_device l join device d on d.id = l.device_id
                   where l.stream_id = a.stream_id and l.until_seq is null and d.state <> 'revoked'
                     and coalesce(d.last_seen_at, d.created_at) >= $2
                     and coalesce(d.last_seen_at, d.created_at) <= a.created_at
               )
               order by a.created_at limit $3
           ), gone as (
               delete from entry_ageing a using due where a.stream_id = due.stream_id and a.seq = due.seq
               returning a.stream_id, a.seq
           ), old as materialized (
               select e.pos, e.stream_id, e.author, e.content_bytes as bytes
               from gone cross join lateral (
                   select * from entry where entry.stream_id = gone.stream_id and entry.seq = gone.seq limit 1
               ) e
           ), deleted as (
               delete from content c where c.week = 0 and c.pos = any(array(select pos from old)) returning c.pos
           ), aged as materialized (
               select old.* from deleted join old on old.pos = deleted.pos
           ), freed as (
               insert into stream_freed (stream_id, freed_bytes)
               select stream_id, sum(bytes) from aged group by stream_id order by stream_id
               on conflict (stream_id) do update set freed_bytes = stream_freed.freed_bytes + excluded.freed_bytes
           ), freed_of_authors as (
               insert into account_usage (account_id, freed_bytes)
               select author, sum(bytes) from aged where author is not null group by author order by author
               on conflict (account_id) do update set freed_bytes = account_usage.freed_bytes + excluded.freed_bytes
           )
           select (select count(*) from gone) as "count!", max(pos) as greatest from aged"#,
        before,
        lapsed,
        limit
    )
    .fetch_one(conn)
    .await?;
    Ok(Aged { rows: u64::try_from(row.count).unwrap_or_default(), greatest: row.greatest })
}

pub(in crate::log) async fn delete_answers(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "delete from answer where (account_id, device_id, method, idem) in (
             select account_id, device_id, method, idem from answer where created_at < $1 order by created_at limit $2
         )",
        before,
        limit
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Expired key packages that were made long ago, with their claims.
pub(in crate::log) async fn delete_key_packages(
    conn: &mut PgConnection,
    expired_before: DateTime<Utc>,
    made_before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "with old as materialized (
             select id from key_package where expires_at < $1 and created_at < $2 order by expires_at limit $3
         ), claims as (
             delete from key_package_claim c using old where c.key_package_id = old.id
         )
         delete from key_package k using old where k.id = old.id",
        expired_before,
        made_before,
        limit
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Welcomes with their pointers.
pub(in crate::log) async fn delete_welcomes(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "with old as materialized (
             select id from welcome where created_at < $1 order by created_at limit $2
         ), pointers as (
             delete from welcome_pointer p using old where p.welcome_id = old.id
         )
         delete from welcome w using old where w.id = old.id",
        before,
        limit
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}
