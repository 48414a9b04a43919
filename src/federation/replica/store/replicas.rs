//! SQL on the streams that we follow.

use crate::federation::replica::View;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Seq, Term, UnixMillis};

/// A stream of another home.
#[derive(Clone, Debug)]
pub struct ReplicaRow {
    pub from_seq: Seq,
    pub failures: i16,
    /// How often in a row the stream stopped after such failures.
    pub stops: i16,
    pub view: Option<View>,
    /// The home that was asked, by its lineage, and its term.
    followed: Option<String>,
    followed_term: Term,
    stopped_by: Option<String>,
}

impl ReplicaRow {
    /// Whether this server is the home behind what is held: it tells us what homes before it ordered, too.
    pub fn foretells(&self, server: &Did, held: Term) -> bool {
        self.followed.as_deref() == Some(server.as_str()) && self.followed_term > held
    }

    /// The name by which everything is refused, if it is.
    pub fn stopped_by(&self) -> Option<&'static str> {
        let name = self.stopped_by.as_deref()?;
        Some(match name {
            "ContentMismatch" => "ContentMismatch",
            "CheckpointInvalid" => "CheckpointInvalid",
            _ => "ChainBroken",
        })
    }
}

/// Nothing for a stream that we did not ask for, or do not want any more.
pub async fn find_replica(pool: &PgPool, stream_id: i64) -> Result<Option<ReplicaRow>, Error> {
    let row = sqlx::query!(
        "select from_seq, failures, stops, stopped_by, view, followed, followed_term
         from replica where stream_id = $1 and ended_at is null",
        stream_id
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let view = row.view.map(serde_json::from_value).transpose().map_err(|_| Error::Corrupt("replica.view"))?;
    Ok(Some(ReplicaRow {
        from_seq: Seq::from_db(row.from_seq),
        failures: row.failures,
        stops: row.stops,
        view,
        followed: row.followed,
        followed_term: Term::from_db(row.followed_term),
        stopped_by: row.stopped_by,
    }))
}

pub struct NewReplica<'a> {
    pub stream_id: i64,
    /// The entry that begins a seat here, if one is about to.
    pub begins: Option<Seq>,
    pub from: Seq,
    /// Becomes seats once our head is before `begins`.
    pub waiting: Option<&'a View>,
    /// The present home, and its term.
    pub home: &'a str,
    pub term: Term,
    pub now: UnixMillis,
}

/// Records that this server follows the stream, or follows it again.
pub async fn put_replica(conn: &mut PgConnection, new: &NewReplica<'_>) -> Result<(), Error> {
    let view = new.waiting.map(serde_json::to_value).transpose().map_err(|_| Error::Corrupt("view"))?;
    sqlx::query!(
        "insert into replica (stream_id, from_seq, view, checked_at, created_at, followed, followed_term, followed_at)
         values ($1, $2, $3, $4, $4, $6, $7, $4)
         on conflict (stream_id) do update
         set from_seq = coalesce($5, replica.from_seq), view = coalesce(excluded.view, replica.view), failures = 0,
             stopped_by = null, follow_due_at = null, follow_failures = 0, ended_at = null,
             backfilled_seq = case when replica.ended_at is null then replica.backfilled_seq end,
             followed = excluded.followed, followed_term = excluded.followed_term, followed_at = excluded.followed_at",
        new.stream_id,
        new.from.to_db(),
        view,
        new.now.to_datetime(),
        new.begins.map(Seq::to_db),
        new.home,
        new.term.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The view became seats.
pub async fn seated_by_view(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update replica set view = null where stream_id = $1", stream_id).execute(conn).await?;
    Ok(())
}

/// The immutable facts of the conversation, as the home states them.
pub async fn put_convo(conn: &mut PgConnection, stream_id: i64, view: &View, now: UnixMillis) -> Result<(), Error> {
    let policy: serde_json::Value = serde_json::from_str(&view.policy).unwrap_or_default();
    let handshakes = i16::from(view.handshake_policy == "validated");
    sqlx::query!(
        "insert into convo (stream_id, group_id, cipher_suite, handshake_policy, policy, metadata, created_at, is_foreign)
         values ($1, $2, $3, $4, $5, $6, $7, true)
         on conflict (stream_id) do update set policy = excluded.policy, metadata = excluded.metadata",
        stream_id,
        view.group_id.as_slice(),
        i32::from(view.cipher_suite),
        handshakes,
        policy,
        view.metadata.as_ref().map(crate::types::Bytes::as_slice),
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub async fn genesis(pool: &PgPool, stream_id: i64) -> Result<Vec<u8>, Error> {
    Ok(sqlx::query_scalar!("select genesis from stream where id = $1", stream_id).fetch_one(pool).await?)
}

/// Counts a request of the home that failed verification, and answers how many came in a row. The `most`-th stops the
/// stream: the follower accepts nothing more until it has followed again, after `pause`.
pub async fn replica_failed(
    pool: &PgPool,
    stream_id: i64,
    name: &str,
    most: i16,
    pause: std::time::Duration,
    now: UnixMillis,
) -> Result<i16, Error> {
    Ok(sqlx::query_scalar!(
        "update replica set
             failures = failures + 1,
             stopped_by = case when failures + 1 >= $3::smallint then $2 end,
             stops = case when failures + 1 >= $3::smallint then least(stops, 1000) + 1 else stops end,
             follow_due_at = case when failures + 1 >= $3::smallint
                                  then $4::timestamptz + make_interval(secs => $5) else follow_due_at end
         where stream_id = $1 returning failures",
        stream_id,
        name,
        most,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .fetch_one(pool)
    .await?)
}

pub async fn replica_succeeded(pool: &PgPool, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update replica set failures = 0, stops = 0 where stream_id = $1", stream_id).execute(pool).await?;
    Ok(())
}

/// Whether the seat that made this server follow has begun and no account of this server has an open seat. An account
/// that moved here counts before the entry of its move arrives, since its seat names the former server until then.
pub async fn has_ended(pool: &PgPool, stream_id: i64, server: &Did) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select s.head_seq >= r.from_seq and not exists (
               select 1 from seat x join account a on a.id = x.account_id
               where x.stream_id = $1 and x.until_seq is null
                 and (x.server = $2 or (a.stream_id is not null and a.server is null))
           ) as "ended!"
           from stream s join replica r on r.stream_id = s.id where s.id = $1"#,
        stream_id,
        server.as_str()
    )
    .fetch_optional(pool)
    .await?
    .unwrap_or(false))
}

/// Whether this server followed the stream until its last seat there ended.
pub async fn is_ended(pool: &PgPool, stream_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from replica where stream_id = $1 and ended_at is not null) as "ended!""#,
        stream_id
    )
    .fetch_one(pool)
    .await?)
}

pub async fn end_replica(pool: &PgPool, stream_id: i64, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update replica set ended_at = coalesce(ended_at, $2), follow_due_at = null where stream_id = $1",
        stream_id,
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Accounts of this server with an open seat that they took.
pub async fn local_members(conn: &mut PgConnection, stream_id: i64) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select s.account_id from seat s join account a on a.id = s.account_id and a.stream_id is not null
         where s.stream_id = $1 and s.until_seq is null and not s.held order by s.account_id",
        stream_id
    )
    .fetch_all(conn)
    .await?)
}

/// Streams for which `peer.follow` is due from this server's head: those marked as due, those that moved to another
/// home, and those whose last `peer.follow` is a week old.
pub async fn due_follows(pool: &PgPool, now: UnixMillis, limit: i64) -> Result<Vec<(i64, i32)>, Error> {
    let rows = sqlx::query!(
        "select r.stream_id, r.follow_failures from replica r join stream s on s.id = r.stream_id
         where r.ended_at is null and s.state not in (4, 5) and (r.follow_due_at <= $1 or (
                   r.follow_due_at is null and s.state = 0 and (
                       (r.followed is distinct from s.home and r.followed_term <= s.term)
                       or r.followed_at < $1::timestamptz - interval '7 days')))
         order by r.follow_due_at limit $2",
        now.to_datetime(),
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.stream_id, row.follow_failures)).collect())
}

pub async fn put_off_follow(
    pool: &PgPool,
    stream_id: i64,
    pause: std::time::Duration,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "update replica set follow_failures = follow_failures + 1, follow_due_at = $2::timestamptz + make_interval(secs => $3)
         where stream_id = $1",
        stream_id,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Makes streams due to be followed again, for the operator: one stream, or all of one home. Answers their public ids.
pub async fn resume(
    pool: &PgPool,
    stream: Option<&str>,
    home: Option<&Did>,
    now: UnixMillis,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "update replica r set follow_due_at = $3, follow_failures = 0, stops = 0 from stream s
         where s.id = r.stream_id and r.ended_at is null and s.state not in (4, 5)
           and (s.public_id = $1 or s.home = $2)
         returning s.public_id",
        stream,
        home.map(Did::as_str),
        now.to_datetime()
    )
    .fetch_all(pool)
    .await?)
}

/// Streams with traffic that were not compared with another server for so long, and one such server for each.
pub struct Unchecked {
    pub stream_id: i64,
    pub witness: Option<String>,
}

pub async fn unchecked(pool: &PgPool, server: &Did, before: UnixMillis, limit: i64) -> Result<Vec<Unchecked>, Error> {
    Ok(sqlx::query_as!(
        Unchecked,
        r#"select r.stream_id, (
               select w.server from seat w
               where w.stream_id = r.stream_id and w.until_seq is null and w.server <> $1 and w.server <> s.home
               order by random() limit 1
           ) as witness
           from replica r join stream s on s.id = r.stream_id
           where r.ended_at is null and s.state = 0 and r.checked_at < $2 and s.head_seq > r.checked_seq
           order by r.checked_at limit $3"#,
        server.as_str(),
        before.to_datetime(),
        limit
    )
    .fetch_all(pool)
    .await?)
}

pub async fn checked(pool: &PgPool, stream_id: i64, seq: Seq, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update replica set checked_at = $2, checked_seq = $3 where stream_id = $1",
        stream_id,
        now.to_datetime(),
        seq.to_db()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Streams homed at a server that we follow.
pub async fn replicas_of(pool: &PgPool, home: &str) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select r.stream_id from replica r join stream s on s.id = r.stream_id
         where s.home = $1 and r.ended_at is null order by r.stream_id",
        home
    )
    .fetch_all(pool)
    .await?)
}

/// Drops the contents of streams in which no seat of this server is left, 29 days after the last one ended.
pub async fn forget_ended(pool: &PgPool, now: UnixMillis) -> Result<u64, Error> {
    let done = sqlx::query!(
        "with old as materialized (
             select e.week, e.pos from replica r join entry_content e on e.stream_id = r.stream_id
             where r.ended_at < $1::timestamptz - interval '29 days' and e.content is not null limit 500
         )
         delete from content c
         where c.week = any(array(select distinct week from old)) and c.pos = any(array(select pos from old))",
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
