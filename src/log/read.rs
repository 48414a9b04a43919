//! Reading below the fence.
//!
//! Invariant: what comes across streams has a position below the fence of the same snapshot, so nothing can later appear
//! behind a cursor. A cursor is the position of an entry that was delivered, never the fence.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::chain::{Content, Head, Header};
use super::store::{self, hash};
use super::{EntryKind, Error, Event, Log};
use crate::storage;
use crate::types::{Cursor, Epoch, Refusal, Seq, StreamId};

/// A span of a stream that a seat covers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Seq,
    pub until: Option<Seq>,
}

impl Window {
    pub fn covers(&self, seq: Seq) -> bool {
        self.from <= seq && self.until.is_none_or(|until| seq <= until)
    }
}

/// Which way to page within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    After(Seq),
    Before(Seq),
}

/// Events in order, and whether there are more.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub events: Vec<Event>,
    pub more: bool,
}

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

fn events(rows: Vec<Row>) -> Result<Vec<Event>, Error> {
    rows.into_iter().map(Event::try_from).collect()
}

/// A page: one row more than `limit` was asked for.
fn page(mut rows: Vec<Row>, limit: u32) -> Result<Page, Error> {
    let limit = limit as usize;
    let more = rows.len() > limit;
    rows.truncate(limit);
    Ok(Page { events: events(rows)?, more })
}

impl Log {
    /// What this account may see after `after`, over all its streams, in cursor order; not beyond `upto`.
    ///
    /// Prunes streams by their heads, seeks each one's start on the primary key, merges keys first, then reads bodies.
    pub async fn events(
        &self,
        account_id: i64,
        after: Cursor,
        upto: Option<Cursor>,
        limit: u32,
    ) -> Result<Page, Error> {
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
                   where s.account_id = $1
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
            i64::from(limit) + 1
        )
        .fetch_all(self.inner.storage.pool())
        .await?;
        page(rows, limit)
    }

    /// Refuses a cursor that no entry can have handed out.
    pub async fn refuse_future(&self, cursor: Cursor) -> Result<(), Error> {
        let newest = sqlx::query_scalar!(r#"select coalesce(max(pos), 0) as "pos!" from entry"#)
            .fetch_one(self.inner.storage.pool())
            .await?;
        if cursor.to_db() > newest {
            return Err(Refusal::new("FutureCursor", "the cursor is beyond the newest event of this server").into());
        }
        Ok(())
    }

    /// Entries of one stream that the account's seats cover. `kinds` empty means all.
    pub async fn entries(
        &self,
        stream_id: i64,
        account_id: i64,
        direction: Direction,
        kinds: &[EntryKind],
        limit: u32,
    ) -> Result<Page, Error> {
        let kinds: Vec<i16> = kinds.iter().map(|kind| kind.to_db()).collect();
        let pool = self.inner.storage.pool();
        match direction {
            Direction::After(seq) => {
                let rows = sqlx::query_as!(
                    Row,
                    r#"select e.pos, e.stream_id, t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content,
                              e.hash
                       from entry e join stream t on t.id = e.stream_id
                       where e.stream_id = $1 and e.seq > $3 and (cardinality($4::smallint[]) = 0 or e.kind = any($4))
                         and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2
                                     and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
                       order by e.seq limit $5"#,
                    stream_id,
                    account_id,
                    seq.to_db(),
                    &kinds,
                    i64::from(limit) + 1
                )
                .fetch_all(pool)
                .await?;
                page(rows, limit)
            }
            Direction::Before(seq) => {
                let rows = sqlx::query_as!(
                    Row,
                    r#"select e.pos, e.stream_id, t.public_id, e.seq, e.kind, e.epoch, e.created_at, e.header, e.content,
                              e.hash
                       from entry e join stream t on t.id = e.stream_id
                       where e.stream_id = $1 and e.seq < $3 and (cardinality($4::smallint[]) = 0 or e.kind = any($4))
                         and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2
                                     and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
                       order by e.seq desc limit $5"#,
                    stream_id,
                    account_id,
                    seq.to_db(),
                    &kinds,
                    i64::from(limit) + 1
                )
                .fetch_all(pool)
                .await?;
                let mut page = page(rows, limit)?;
                page.events.reverse();
                Ok(page)
            }
        }
    }

    /// The spans of a stream that the account may read, oldest first; empty for a stranger.
    pub async fn windows(&self, stream_id: i64, account_id: i64) -> Result<Vec<Window>, Error> {
        let rows = sqlx::query!(
            "select from_seq, until_seq from seat where stream_id = $1 and account_id = $2 order by from_seq",
            stream_id,
            account_id
        )
        .fetch_all(self.inner.storage.pool())
        .await?;
        let window =
            |from: i64, until: Option<i64>| Window { from: Seq::from_db(from), until: until.map(Seq::from_db) };
        Ok(rows.into_iter().map(|row| window(row.from_seq, row.until_seq)).collect())
    }

    /// The stream's head as these windows show it: that of the last entry covered.
    pub async fn visible_head(&self, stream_id: i64, windows: &[Window]) -> Result<Option<Head>, Error> {
        let Some(last) = windows.last() else { return Ok(None) };
        let pool = self.inner.storage.pool();
        let mut head = store::stream_row(pool, stream_id).await?.head()?;
        if let Some(until) = last.until {
            let row = sqlx::query!(
                "select header, hash from entry where stream_id = $1 and seq = $2",
                stream_id,
                until.to_db()
            )
            .fetch_one(pool)
            .await?;
            let header = Header::decode(&row.header)?;
            head = Head { term: header.term, seq: until, hash: hash(&row.hash)?, time: header.time, ..head };
        }
        Ok(Some(head))
    }
}

/// The newest position below the fence: where a tail begins.
pub(super) async fn newest_readable(pool: &PgPool) -> Result<Cursor, Error> {
    let pos = sqlx::query_scalar!(
        r#"select coalesce(max(pos), 0) as "pos!" from entry
           where pos < (select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin)"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Cursor::from_db(pos))
}

/// Every stream's entries after `after` and below the fence, in order: what the tail hands out.
pub(super) async fn tail(pool: &PgPool, after: Cursor, limit: i64) -> Result<Vec<Event>, Error> {
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
    events(rows)
}

/// One account's span of one stream.
pub(super) struct SpanRow {
    pub stream_id: i64,
    pub account_id: i64,
    pub from_seq: i64,
    pub until_seq: Option<i64>,
}

/// All spans of an account, for a new subscription.
pub(super) async fn spans_of_account(pool: &PgPool, account_id: i64) -> Result<Vec<SpanRow>, Error> {
    Ok(sqlx::query_as!(
        SpanRow,
        "select stream_id, account_id, from_seq, until_seq from seat where account_id = $1",
        account_id
    )
    .fetch_all(pool)
    .await?)
}

/// The spans of these accounts in these streams, after entries that changed seats.
pub(super) async fn spans_of_streams(
    pool: &PgPool,
    stream_ids: &[i64],
    account_ids: &[i64],
) -> Result<Vec<SpanRow>, Error> {
    Ok(sqlx::query_as!(
        SpanRow,
        "select stream_id, account_id, from_seq, until_seq from seat
         where stream_id = any($1) and account_id = any($2)",
        stream_ids,
        account_ids
    )
    .fetch_all(pool)
    .await?)
}
