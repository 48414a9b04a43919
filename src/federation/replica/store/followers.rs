//! SQL on the followers of our streams.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Seq, UnixMillis};

/// A follower stays dropped after failing for so long.
const DROPPED_AFTER: &str = "30 days";

/// The part of a stream that a server may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seated {
    /// Where its first seat begins.
    pub from: Seq,
    /// The last entry that it gets, if none of its seats is open.
    pub until: Option<Seq>,
}

/// Nothing if no account of that server ever had a seat.
pub async fn seated(pool: &PgPool, stream_id: i64, server: &Did) -> Result<Option<Seated>, Error> {
    let row = sqlx::query!(
        r#"select min(from_seq) as from_seq, max(until_seq) as until_seq,
                  coalesce(bool_or(until_seq is null), false) as "is_open!"
           from seat where stream_id = $1 and server = $2"#,
        stream_id,
        server.as_str()
    )
    .fetch_one(pool)
    .await?;
    let until = row.until_seq.filter(|_| !row.is_open).map(Seq::from_db);
    Ok(row.from_seq.map(|from| Seated { from: Seq::from_db(from), until }))
}

/// Sends it what lies between `from` and the head, from now on.
pub async fn put_follower(
    conn: &mut PgConnection,
    stream_id: i64,
    server: &Did,
    from: Seq,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into follower (stream_id, server, from_seq, acked_seq, due_at, created_at)
         values ($1, $2, $3, $3::bigint - 1, $4::timestamptz, $4)
         on conflict (stream_id, server) do update
         set from_seq = excluded.from_seq, acked_seq = excluded.acked_seq, failures = 0, failing_since = null,
             due_at = excluded.due_at, leased_until = null",
        stream_id,
        server.as_str(),
        from.to_db(),
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A server that acknowledged everything up to `held` gets later entries, unless it already does.
pub async fn recall_follower(
    pool: &PgPool,
    stream_id: i64,
    server: &Did,
    held: Seq,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into follower (stream_id, server, from_seq, acked_seq, due_at, created_at)
         values ($1, $2, 1, $3, $4::timestamptz, $4) on conflict do nothing",
        stream_id,
        server.as_str(),
        held.to_db(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn delete_follower(pool: &PgPool, stream_id: i64, server: &Did) -> Result<(), Error> {
    sqlx::query!("delete from follower where stream_id = $1 and server = $2", stream_id, server.as_str())
        .execute(pool)
        .await?;
    Ok(())
}

/// Followed streams in which something was committed after that position, and how far was looked.
pub async fn touched(pool: &PgPool, after: i64) -> Result<(Vec<i64>, i64), Error> {
    let row = sqlx::query!(
        r#"with fence as materialized (
               select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) as pos from log_origin
           ), fresh as materialized (
               select e.stream_id, e.pos from entry e, fence
               where e.pos > $1 and e.pos < fence.pos order by e.pos limit 20000
           )
           select coalesce((select max(pos) from fresh), $1) as "upto!",
                  array(select distinct stream_id from fresh
                        where exists (select 1 from follower f where f.stream_id = fresh.stream_id)) as "ids!""#,
        after
    )
    .fetch_one(pool)
    .await?;
    Ok((row.ids, row.upto))
}

/// A follower that a replication sender serves exclusively until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub stream_id: i64,
    pub server: String,
    pub acked_seq: i64,
    pub from_seq: i64,
    pub failures: i32,
    pub failing_since: Option<DateTime<Utc>>,
}

/// Servers with followers that are behind and due, of these streams or of all. One that cannot be reached is due by
/// itself.
pub async fn due_servers(pool: &PgPool, streams: Option<&[i64]>, now: UnixMillis) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select distinct f.server from follower f join stream s on s.id = f.stream_id
         left join follower_peer p on p.server = f.server
         where ($1::bigint[] is null or f.stream_id = any($1)) and f.acked_seq < s.head_seq and f.due_at <= $2
           and (f.leased_until is null or f.leased_until <= $2) and s.state in (0, 2) and (p.due_at is null or p.due_at <= $2)",
        streams,
        now.to_datetime()
    )
    .fetch_all(pool)
    .await?)
}

/// Leases followers of one server, those that wait longest first; one alone, while the server cannot be reached.
pub async fn lease(
    pool: &PgPool,
    server: &str,
    streams: Option<&[i64]>,
    limit: i64,
    lease: Duration,
    now: UnixMillis,
) -> Result<Vec<Lease>, Error> {
    Ok(sqlx::query_as!(
        Lease,
        r#"with peer as (
               select due_at from follower_peer where server = $1
           ), due as (
               select f.stream_id, f.server from follower f join stream s on s.id = f.stream_id
               where f.server = $1 and f.acked_seq < s.head_seq and f.due_at <= $3 and s.state in (0, 2)
                 and ($5::bigint[] is null or f.stream_id = any($5))
                 and (f.leased_until is null or f.leased_until <= $3)
                 and not exists (select 1 from peer where peer.due_at > $3)
               order by f.due_at limit case when exists (select 1 from peer) then 1::bigint else $2::bigint end
               for no key update of f skip locked
           )
           update follower f set leased_until = $3::timestamptz + make_interval(secs => $4)
           from due where f.stream_id = due.stream_id and f.server = due.server
           returning f.stream_id, f.server, f.acked_seq, f.from_seq, f.failures, f.failing_since"#,
        server,
        limit,
        now.to_datetime(),
        lease.as_secs_f64(),
        streams
    )
    .fetch_all(pool)
    .await?)
}

/// Records that the follower holds everything up to `acked`, and extends the lease. False if the lease is no longer
/// ours.
pub async fn acked(pool: &PgPool, lease: &Lease, acked: Seq, for_s: f64, now: UnixMillis) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update follower set acked_seq = $3, failures = 0, failing_since = null,
                leased_until = $4::timestamptz + make_interval(secs => $5)
         where stream_id = $1 and server = $2 and acked_seq = $6 and leased_until is not null",
        lease.stream_id,
        lease.server,
        acked.to_db(),
        now.to_datetime(),
        for_s,
        lease.acked_seq
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Releases the lease of a served follower, which is due again after a pause. Answers whether new entries arrived
/// meanwhile.
pub async fn release(pool: &PgPool, lease: &Lease, pause: Duration, now: UnixMillis) -> Result<bool, Error> {
    let acked = sqlx::query_scalar!(
        "update follower set leased_until = null, due_at = $3::timestamptz + make_interval(secs => $4)
         where stream_id = $1 and server = $2 returning acked_seq",
        lease.stream_id,
        lease.server,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .fetch_optional(pool)
    .await?;
    let Some(acked) = acked else { return Ok(false) };
    // A statement of its own: what is committed after it finds the lease gone.
    Ok(sqlx::query_scalar!(
        r#"select s.head_seq > $2 and s.state in (0, 2) as "behind!" from stream s where s.id = $1"#,
        lease.stream_id,
        acked
    )
    .fetch_one(pool)
    .await?)
}

/// The follower refused what was sent: this stream waits, and in the end it is not followed any more.
pub async fn refused(pool: &PgPool, lease: &Lease, pause: Duration, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update follower set leased_until = null, failures = failures + 1, failing_since = coalesce(failing_since, $3),
                due_at = $3::timestamptz + make_interval(secs => $4)
         where stream_id = $1 and server = $2",
        lease.stream_id,
        lease.server,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// How often a server could not be reached in a row, and since when.
pub async fn peer_failures(pool: &PgPool, server: &str) -> Result<Option<(i32, DateTime<Utc>)>, Error> {
    let row = sqlx::query!("select failures, failing_since from follower_peer where server = $1", server)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| (row.failures, row.failing_since)))
}

/// The server could not be reached: all that it follows waits.
pub async fn unreached(pool: &PgPool, server: &str, pause: Duration, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "insert into follower_peer (server, failures, failing_since, due_at)
         values ($1, 1, $2::timestamptz, $2::timestamptz + make_interval(secs => $3))
         on conflict (server) do update
         set failures = follower_peer.failures + 1, due_at = greatest(follower_peer.due_at, excluded.due_at)",
        server,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Followers that could not be reached when they were last tried.
pub async fn unreached_servers(pool: &PgPool) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!("select server from follower_peer").fetch_all(pool).await?)
}

/// Records that the server answers again. Answers whether it was unreachable.
pub async fn reached(pool: &PgPool, server: &str) -> Result<bool, Error> {
    let done = sqlx::query!("delete from follower_peer where server = $1", server).execute(pool).await?;
    Ok(done.rows_affected() > 0)
}

/// Makes all that waits for that server due at once: replication and deliveries.
pub async fn resume_follower(pool: &PgPool, server: &Did, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update follower set due_at = $2, failures = 0, failing_since = null where server = $1",
        server.as_str(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "update delivery set due_at = $2, attempts = 0 where peer = $1 and state = 'waiting'",
        server.as_str(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Drops followers that failed, or could not be reached, for 30 days. How many.
pub async fn drop_lost(pool: &PgPool, now: UnixMillis) -> Result<u64, Error> {
    let done = sqlx::query!(
        "delete from follower f
         where f.failing_since < $1::timestamptz - $2::text::interval
            or exists (select 1 from follower_peer p where p.server = f.server
                       and p.failing_since < $1::timestamptz - $2::text::interval)",
        now.to_datetime(),
        DROPPED_AFTER
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
