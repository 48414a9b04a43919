//! SQL of readers: pages and the tail. The fence is read in the same snapshot as what it bounds.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::hash;
use crate::log::chain::{Content, Header};
use crate::log::{EntryKind, Error, Event};
use crate::storage;
use crate::types::{Cursor, Epoch, Seq, StreamId};

struct Row {
    pos: i64,
    stream_id: i64,
    public_id: String,
    seq: i64,
    kind: i16,
    epoch: Option<i64>,
    created_at: DateTime<Utc>,
    header: Vec<u8>,
    content: Option<Vec<u8>>,
    hash: Vec<u8>,
}

impl TryFrom<Row> for Event {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self, Error> {
        let header = Header::decode(&row.header)?;
        Ok(Self {
            cursor: Cursor::from_db(row.pos),
            stream_id: row.stream_id,
            stream: StreamId::parse(&row.public_id).map_err(|_| storage::Error::Corrupt("stream.public_id"))?,
            term: header.term,
            seq: Seq::from_db(row.seq),
            kind: EntryKind::from_db(row.kind).ok_or(storage::Error::Corrupt("entry.kind"))?,
            hash: hash(&row.hash)?,
            time: row.created_at.into(),
            header: row.header,
            content: row.content.as_deref().map(Content::decode).transpose()?,
            epoch: row.epoch.map(Epoch::from_db),
        })
    }
}

fn read(rows: Vec<Row>) -> Result<Vec<Event>, Error> {
    rows.into_iter().map(Event::try_from).collect()
}

/// What an account's seats cover after `after` and not beyond `upto`, in cursor order.
///
/// Prunes streams by their heads, seeks each one's start on the primary key, merges keys first, then reads bodies.
pub(in crate::log) async fn events(
    pool: &PgPool,
    account_id: i64,
    after: Cursor,
    upto: Option<Cursor>,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"with fence as materialized (
               select least(
                   base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) - 1,
                   coalesce($3, 9007199254740991)
               ) as last_pos
               from log_origin
           ), span as (
               select s.stream_id, s.from_seq, s.until_seq
               from seat s join stream t on t.id = s.stream_id and t.head_pos > $2
               where s.account_id = $1 and not s.held
           ), key as (
               select p.pos, p.stream_id, p.seq
               from span
               cross join fence
               cross join lateral (
                   select greatest(span.from_seq, 1 + coalesce((
                       select b.seq from entry b where b.stream_id = span.stream_id and b.pos <= $2
                       order by b.seq desc limit 1
                   ), 0)) as seq
               ) first
               cross join lateral (
                   select e.pos, e.stream_id, e.seq from entry e
                   where e.stream_id = span.stream_id and e.seq >= first.seq
                     and (span.until_seq is null or e.seq <= span.until_seq)
                     and e.pos <= fence.last_pos
                   order by e.seq limit $4
               ) p
               order by p.pos limit $4
           )
           select key.pos as "pos!", key.stream_id as "stream_id!", t.public_id, key.seq as "seq!", e.kind, e.epoch,
                  e.created_at, e.header, e.content, e.hash
           from key
           join entry e on e.stream_id = key.stream_id and e.seq = key.seq
           join stream t on t.id = key.stream_id
           order by key.pos"#,
        account_id,
        after.to_db(),
        upto.map(Cursor::to_db),
        limit
    )
    .fetch_all(pool)
    .await?;
    read(rows)
}

/// Entries of one stream that the account's seats cover, after `seq`, upwards. `kinds` empty means all.
pub(in crate::log) async fn entries_after(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    seq: Seq,
    kinds: &[i16],
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"select e.pos, e.stream_id, t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content,
                  e.hash
           from entry e join stream t on t.id = e.stream_id
           where e.stream_id = $1 and e.seq > $3 and (cardinality($4::smallint[]) = 0 or e.kind = any($4))
             and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2 and not s.held
                         and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
           order by e.seq limit $5"#,
        stream_id,
        account_id,
        seq.to_db(),
        kinds,
        limit
    )
    .fetch_all(pool)
    .await?;
    read(rows)
}

/// The same, before `seq`, downwards.
pub(in crate::log) async fn entries_before(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    seq: Seq,
    kinds: &[i16],
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"select e.pos, e.stream_id, t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content,
                  e.hash
           from entry e join stream t on t.id = e.stream_id
           where e.stream_id = $1 and e.seq < $3 and (cardinality($4::smallint[]) = 0 or e.kind = any($4))
             and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2 and not s.held
                         and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
           order by e.seq desc limit $5"#,
        stream_id,
        account_id,
        seq.to_db(),
        kinds,
        limit
    )
    .fetch_all(pool)
    .await?;
    read(rows)
}

/// The newest position below the fence: where a tail begins.
pub(in crate::log) async fn newest_readable(pool: &PgPool) -> Result<Cursor, Error> {
    let pos = sqlx::query_scalar!(
        r#"select coalesce(max(pos), 0) as "pos!" from entry
           where pos < (select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin)"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Cursor::from_db(pos))
}

/// Every stream's entries after `after` and below the fence, in order: what the tail hands out.
pub(in crate::log) async fn tail(pool: &PgPool, after: Cursor, limit: i64) -> Result<Vec<Event>, Error> {
    let rows = sqlx::query_as!(
        Row,
        r#"select e.pos, e.stream_id, t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content, e.hash
           from entry e join stream t on t.id = e.stream_id
           where e.pos > $1
             and e.pos < (select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin)
           order by e.pos limit $2"#,
        after.to_db(),
        limit
    )
    .fetch_all(pool)
    .await?;
    read(rows)
}

/// What judges a cursor.
pub(in crate::log) struct StandingRow {
    /// The greatest position stored, readable yet or not.
    pub newest: Cursor,
    /// The greatest position whose content aged out.
    pub aged: Cursor,
    /// A restore took the entry away.
    pub lost: bool,
}

pub(in crate::log) async fn standing(pool: &PgPool, cursor: Cursor) -> Result<StandingRow, Error> {
    let row = sqlx::query!(
        r#"select coalesce((select max(pos) from entry), 0) as "newest!",
                  coalesce((select max(aged_pos) from log_sweep), 0) as "aged!",
                  exists (select 1 from log_restore where restored_pos < $1 and $1 <= base) as "lost!""#,
        cursor.to_db()
    )
    .fetch_one(pool)
    .await?;
    Ok(StandingRow { newest: Cursor::from_db(row.newest), aged: Cursor::from_db(row.aged), lost: row.lost })
}
