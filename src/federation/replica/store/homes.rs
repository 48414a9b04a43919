//! SQL on the homes of the streams that we follow, and on what they promised.

use crate::identity::Signed;
use crate::storage::{Error, PgPool};
use crate::types::{Did, Seq, StreamId, Term, UnixMillis};

/// Records that the home was heard, at most every 20 seconds; after five minutes of silence the home counts as
/// returned. After a day of silence the home may have forgotten this server as a follower: all its streams become due
/// to be followed again.
pub async fn heard(pool: &PgPool, home: &Did, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "with anew as (
             update replica r set follow_due_at = $2 from stream s, home_contact c
             where c.server = $1 and c.last_at < $2::timestamptz - interval '1 day'
               and s.id = r.stream_id and s.home = $1 and r.ended_at is null and r.follow_due_at is null
         )
         insert into home_contact (server, reachable_since, last_at) values ($1, $2::timestamptz, $2)
         on conflict (server) do update
         set last_at = excluded.last_at, asked_at = null,
             reachable_since = case when home_contact.last_at < excluded.last_at - interval '5 minutes'
                                    then excluded.last_at else home_contact.reachable_since end
         where home_contact.last_at < excluded.last_at - interval '20 seconds'",
        home.as_str(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Homes that were silent for an hour, each with one stream of theirs; they are not asked again for another hour.
pub async fn silent(pool: &PgPool, now: UnixMillis) -> Result<Vec<(String, i64)>, Error> {
    let rows = sqlx::query!(
        r#"update home_contact c set asked_at = $1
           where c.last_at < $1::timestamptz - interval '1 hour' and (c.asked_at is null or c.asked_at < $1::timestamptz - interval '1 hour')
             and exists (select 1 from replica r join stream s on s.id = r.stream_id
                         where s.home = c.server and r.ended_at is null and s.state = 0)
           returning c.server, (
               select r.stream_id from replica r join stream s on s.id = r.stream_id
               where s.home = c.server and r.ended_at is null and s.state = 0 order by random() limit 1
           ) as "stream_id!""#,
        now.to_datetime()
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.server, row.stream_id)).collect())
}

pub async fn insert_receipt(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    (term, seq): (Term, Seq),
    signed: &Signed,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into receipt (stream_id, account_id, term, seq, statement, key, sig, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing",
        stream_id,
        account_id,
        term.to_db(),
        seq.to_db(),
        signed.statement.as_slice(),
        signed.key,
        signed.sig.as_slice(),
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// A promise that is not kept yet.
pub struct ReceiptRow {
    pub stream_id: i64,
    pub account_id: i64,
    pub seq: i64,
    pub term: i64,
    pub statement: Vec<u8>,
    pub key: String,
    pub sig: Vec<u8>,
    /// The home was reachable for ten minutes since.
    pub is_due: bool,
}

impl ReceiptRow {
    pub fn signed(&self) -> Signed {
        Signed { statement: self.statement.clone().into(), key: self.key.clone(), sig: self.sig.clone().into() }
    }
}

/// Promises whose entry is held by now, or whose time is over.
pub async fn ripe_receipts(pool: &PgPool, now: UnixMillis, limit: i64) -> Result<Vec<ReceiptRow>, Error> {
    Ok(sqlx::query_as!(
        ReceiptRow,
        r#"select r.stream_id, r.account_id, r.seq, r.term, r.statement, r.key, r.sig,
                  coalesce(greatest(r.created_at, c.reachable_since) < $1::timestamptz - interval '10 minutes'
                           and c.last_at > r.created_at, false) as "is_due!"
           from receipt r join stream s on s.id = r.stream_id left join home_contact c on c.server = s.home
           where r.broken_at is null and (s.head_seq >= r.seq or (
                     greatest(r.created_at, c.reachable_since) < $1::timestamptz - interval '10 minutes' and c.last_at > r.created_at))
           order by r.created_at limit $2"#,
        now.to_datetime(),
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Deletes a receipt that the home kept.
pub async fn delete_receipt(pool: &PgPool, row: &ReceiptRow) -> Result<(), Error> {
    sqlx::query!(
        "delete from receipt where stream_id = $1 and seq = $2 and term = $3",
        row.stream_id,
        row.seq,
        row.term
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Records that the receipt's entry is missing. Answers whether this is new.
pub async fn break_receipt(
    conn: &mut crate::storage::PgConnection,
    row: &ReceiptRow,
    now: UnixMillis,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update receipt set broken_at = $4 where stream_id = $1 and seq = $2 and term = $3 and broken_at is null",
        row.stream_id,
        row.seq,
        row.term,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Streams of ours that ask their followers for what was lost, and since when.
pub async fn due_recoveries(pool: &PgPool, now: UnixMillis, limit: i64) -> Result<Vec<(i64, UnixMillis)>, Error> {
    let rows = sqlx::query!(
        "select stream_id, begun_at from recovery where due_at <= $1 order by due_at limit $2",
        now.to_datetime(),
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.stream_id, row.begun_at.into())).collect())
}

pub async fn put_recovery(pool: &PgPool, stream_id: i64, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "insert into recovery (stream_id, begun_at, due_at) values ($1, $2, $2) on conflict do nothing",
        stream_id,
        now.to_datetime()
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub async fn put_off_recovery(
    pool: &PgPool,
    stream_id: i64,
    pause: std::time::Duration,
    now: UnixMillis,
) -> Result<(), Error> {
    sqlx::query!(
        "update recovery set due_at = $2::timestamptz + make_interval(secs => $3) where stream_id = $1",
        stream_id,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Streams that wait, all or one, wait no longer. Which they are.
pub async fn end_waits(pool: &PgPool, stream: Option<&StreamId>, now: UnixMillis) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "update recovery r set begun_at = 'epoch', due_at = least(due_at, $2) from stream s
         where s.id = r.stream_id and ($1::text is null or s.public_id = $1)
         returning s.public_id",
        stream.map(StreamId::as_str),
        now.to_datetime()
    )
    .fetch_all(pool)
    .await?)
}

pub async fn end_recovery(pool: &PgPool, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("delete from recovery where stream_id = $1", stream_id).execute(pool).await?;
    Ok(())
}

/// Other servers that may hold entries of a stream of ours: its followers, and those with a seat.
pub async fn holders(pool: &PgPool, stream_id: i64, us: &Did) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        r#"select server as "server!" from follower where stream_id = $1
           union select server from seat where stream_id = $1 and server <> $2 order by 1"#,
        stream_id,
        us.as_str()
    )
    .fetch_all(pool)
    .await?)
}

/// Whether a term of this stream began from an entry before this one: then what was beyond is declared lost.
pub async fn is_lost(pool: &PgPool, stream_id: i64, term: Term, seq: Seq) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from entry e join stream s on s.id = e.stream_id
               where e.stream_id = $1 and e.kind = 22 and e.seq <= $3 and s.term > $2
           ) as "lost!""#,
        stream_id,
        term.to_db(),
        seq.to_db()
    )
    .fetch_one(pool)
    .await?)
}
