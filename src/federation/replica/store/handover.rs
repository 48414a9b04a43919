//! SQL on streams that go from one home to another.

use chrono::{DateTime, Utc};

use crate::federation::replica::Transfer;
use crate::log::Held;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Did, Seq, UnixMillis};

/// A move that was asked for, or that happened.
pub struct HandoverRow {
    pub server: String,
    pub asked_at: UnixMillis,
    /// The `#homeChanged`, once it did.
    pub seq: Option<Seq>,
}

pub async fn find_handover(pool: &PgPool, stream_id: i64) -> Result<Option<HandoverRow>, Error> {
    let row = sqlx::query!("select server, asked_at, seq from handover where stream_id = $1", stream_id);
    let row = row.fetch_optional(pool).await?;
    Ok(row.map(|row| HandoverRow { server: row.server, asked_at: row.asked_at.into(), seq: row.seq.map(Seq::from_db) }))
}

/// The last entry that was ours, of a stream that went to another home.
pub async fn handed_at(pool: &PgPool, stream_id: i64) -> Result<Option<Seq>, Error> {
    Ok(find_handover(pool, stream_id).await?.and_then(|handover| handover.seq))
}

pub async fn ask(pool: &PgPool, stream_id: i64, to: &Did, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "insert into handover (stream_id, server, asked_at) values ($1, $2, $3)
         on conflict (stream_id) do update set server = excluded.server, asked_at = excluded.asked_at
         where handover.seq is null",
        stream_id,
        to.as_str(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn begin_handing(conn: &mut PgConnection, stream_id: i64, until: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update handover set handing_until = $2 where stream_id = $1", stream_id, until).execute(conn).await?;
    Ok(())
}

pub async fn end_handing(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update handover set handing_until = null where stream_id = $1", stream_id).execute(conn).await?;
    Ok(())
}

pub async fn overdue(pool: &PgPool, now: UnixMillis) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!("select stream_id from handover where handing_until < $1", now.to_datetime())
        .fetch_all(pool)
        .await?)
}

/// Records that the stream moved to another server.
pub async fn moved(conn: &mut PgConnection, stream_id: i64, to: &Did, seq: Seq, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "insert into handover (stream_id, server, asked_at, seq, moved_at) values ($1, $2, $4, $3, $4)
         on conflict (stream_id) do update
         set server = excluded.server, seq = excluded.seq, moved_at = excluded.moved_at, handing_until = null",
        stream_id,
        to.as_str(),
        seq.to_db(),
        now.to_datetime()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("update convo set is_foreign = true where stream_id = $1", stream_id).execute(conn).await?;
    Ok(())
}

/// Our own members hear of it from the next home: it is asked as soon as it orders.
pub async fn follow_next(conn: &mut PgConnection, stream_id: i64, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "insert into replica (stream_id, from_seq, checked_at, created_at) values ($1, 1, $2, $2)
         on conflict (stream_id) do update
         set from_seq = 1, failures = 0, stopped_by = null, view = null, follow_due_at = null, follow_failures = 0,
             ended_at = null, followed = null, followed_term = 0, backfilled_seq = null, backfill_due_at = null",
        stream_id,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that the stream moved here: deletes the rows of its replica and of an earlier handover.
pub async fn arrived(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("delete from replica where stream_id = $1", stream_id).execute(&mut *conn).await?;
    sqlx::query!("delete from takeover where stream_id = $1", stream_id).execute(&mut *conn).await?;
    sqlx::query!("delete from handover where stream_id = $1", stream_id).execute(&mut *conn).await?;
    // Any account that knows a group id can create a conversation with it: a conversation of one member gives way.
    sqlx::query!(
        "update convo o set is_foreign = true from convo c
         where c.stream_id = $1 and o.group_id = c.group_id and o.stream_id <> c.stream_id and not o.is_foreign
           and (select count(*) from seat s where s.stream_id = o.stream_id and s.until_seq is null) <= 1",
        stream_id
    )
    .execute(&mut *conn)
    .await?;
    // Where this server ordered another conversation of that group id meanwhile, that one keeps it.
    sqlx::query!(
        "update convo c set is_foreign = false where stream_id = $1
           and not exists (select 1 from convo o where o.group_id = c.group_id and not o.is_foreign)",
        stream_id
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether this server orders another conversation of the stream's group id, with two members or more.
pub async fn group_is_taken(conn: &mut PgConnection, stream_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from convo c join convo o on o.group_id = c.group_id and not o.is_foreign
               where c.stream_id = $1 and o.stream_id <> $1
                 and (select count(*) from seat s where s.stream_id = o.stream_id and s.until_seq is null) > 1
           ) as "taken!""#,
        stream_id
    )
    .fetch_one(conn)
    .await?)
}

pub async fn put_takeover(
    pool: &PgPool,
    stream_id: i64,
    from: &Did,
    transfer: &Transfer,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into takeover (stream_id, server, seq, snapshot, created_at) values ($1, $2, $3, $4, $5)
         on conflict (stream_id) do update
         set server = excluded.server, seq = excluded.seq, snapshot = excluded.snapshot, created_at = excluded.created_at",
        stream_id,
        from.as_str(),
        transfer.seq.to_db(),
        transfer.snapshot.as_slice(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The snapshot of the accepted move.
pub async fn find_snapshot(pool: &PgPool, stream_id: i64) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar!("select snapshot from takeover where stream_id = $1", stream_id)
        .fetch_optional(pool)
        .await?)
}

/// Streams that came here and wait for our first entry.
pub async fn unopened(pool: &PgPool, us: &Did) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select s.id from takeover t join stream s on s.id = t.stream_id
         where s.home = $1 and s.state = 2 and s.head_seq = t.seq + 1",
        us.as_str()
    )
    .fetch_all(pool)
    .await?)
}

/// Whether everything is held that the home holds.
pub async fn is_whole(pool: &PgPool, stream_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select backfilled_seq is not null as "whole!" from replica where stream_id = $1"#,
        stream_id
    )
    .fetch_optional(pool)
    .await?
    .unwrap_or(false))
}

pub async fn want_backfill(pool: &PgPool, stream_id: i64, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update replica set backfill_due_at = coalesce(backfill_due_at, $2) where stream_id = $1",
        stream_id,
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn forget_backfill(pool: &PgPool, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update replica set backfilled_seq = null where stream_id = $1", stream_id).execute(pool).await?;
    Ok(())
}

pub async fn due_backfills(pool: &PgPool, now: UnixMillis) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select stream_id from replica where backfill_due_at <= $1 and ended_at is null order by backfill_due_at limit 32",
        now.to_datetime()
    )
    .fetch_all(pool)
    .await?)
}

pub async fn backfilled(pool: &PgPool, stream_id: i64, upto: Seq) -> Result<(), Error> {
    sqlx::query!(
        "update replica set backfilled_seq = $2, backfill_due_at = null where stream_id = $1",
        stream_id,
        upto.to_db()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends the backfill, until another offer begins it again.
pub async fn end_backfill(pool: &PgPool, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("update replica set backfill_due_at = null where stream_id = $1", stream_id).execute(pool).await?;
    Ok(())
}

/// The number of the first entry that is held.
pub async fn first_held(pool: &PgPool, stream_id: i64) -> Result<Option<Seq>, Error> {
    let first = sqlx::query_scalar!("select min(seq) from entry where stream_id = $1", stream_id);
    Ok(first.fetch_one(pool).await?.map(Seq::from_db))
}

/// The next entry that is held without its content.
pub async fn next_hole(pool: &PgPool, stream_id: i64, after: Seq) -> Result<Option<Seq>, Error> {
    let hole = sqlx::query_scalar!(
        r#"select seq as "seq!" from entry_content where stream_id = $1 and seq > $2 and content is null
           order by seq limit 1"#,
        stream_id,
        after.to_db()
    );
    Ok(hole.fetch_optional(pool).await?.map(Seq::from_db))
}

/// A content that was missing, of exactly this entry.
pub async fn fill(pool: &PgPool, stream_id: i64, seq: Seq, entry: &Held) -> Result<(), Error> {
    sqlx::query!(
        "with hole as (
             select pos, week from entry_content
             where stream_id = $1 and seq = $2 and header = $3 and content is null
         ), filled as (
             insert into content (week, pos, bytes) select week, pos, $4 from hole on conflict do nothing returning pos
         )
         update entry e set content_bytes = octet_length($4::bytea) from filled where e.pos = filled.pos",
        stream_id,
        seq.to_db(),
        entry.header,
        entry.content
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes the rows of moves that ended 30 days ago.
pub async fn forget_moves(pool: &PgPool, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!("delete from handover where moved_at < $1::timestamptz - interval '30 days'", now.to_datetime())
        .execute(pool)
        .await?;
    sqlx::query!("delete from takeover where created_at < $1::timestamptz - interval '30 days'", now.to_datetime())
        .execute(pool)
        .await?;
    Ok(())
}
