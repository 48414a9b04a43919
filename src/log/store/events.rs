//! SQL of readers, in two steps: keys with the lengths of their entries, then the entries of the keys that fit a page.
//!
//! Invariant: no statement here reads contents without a bound of bytes. A key query reads lengths alone, which count a
//! content that has gone as if it were there, and [`read_entries`] reads what [`crate::log::page::PageBudget`] let
//! through. The horizon is read in the same snapshot as the keys that it bounds.

use chrono::{DateTime, Utc};

use super::hash;
use crate::log::chain::{Content, Header};
use crate::log::page::EntryKey;
use crate::log::{Error, Event, NamedKind};
use crate::storage::{self, PgPool};
use crate::telemetry::metric_name;
use crate::types::{Cursor, Epoch, Seq, StreamId};

struct KeyRow {
    pos: i64,
    stream_id: i64,
    seq: i64,
    kind: i16,
    bytes: i64,
}

impl From<KeyRow> for EntryKey {
    fn from(row: KeyRow) -> Self {
        Self {
            cursor: Cursor::from_db(row.pos),
            stream_id: row.stream_id,
            seq: Seq::from_db(row.seq),
            kind: row.kind,
            bytes: usize::try_from(row.bytes).unwrap_or(usize::MAX),
        }
    }
}

fn keys(rows: Vec<KeyRow>) -> Vec<EntryKey> {
    rows.into_iter().map(EntryKey::from).collect()
}

/// Keys of the entries that an account's seats cover, after `after` and not beyond `upto`, in cursor order.
///
/// Prunes streams by their heads, seeks each one's start on the primary key, merges keys first, then reads lengths.
pub(in crate::log) async fn account_keys(
    pool: &PgPool,
    account_id: i64,
    after: Cursor,
    upto: Option<Cursor>,
    limit: i64,
) -> Result<Vec<EntryKey>, Error> {
    let rows = sqlx::query_as!(
        KeyRow,
        r#"with horizon as materialized (
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
               cross join horizon
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
                     and e.pos <= horizon.last_pos
                   order by e.seq limit $4
               ) p
               order by p.pos limit $4
           )
           select key.pos as "pos!", key.stream_id as "stream_id!", key.seq as "seq!", e.kind,
                  (octet_length(e.header) + e.content_bytes)::bigint as "bytes!"
           from key
           join entry e on e.stream_id = key.stream_id and e.seq = key.seq
           order by key.pos"#,
        account_id,
        after.to_db(),
        upto.map(Cursor::to_db),
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(keys(rows))
}

/// Kinds that a reader asks for; empty means all.
#[derive(Clone, Debug, Default)]
pub(in crate::log) struct KindFilter {
    numbers: Vec<i16>,
    names: Vec<String>,
}

impl KindFilter {
    pub fn of(kinds: &[NamedKind]) -> Self {
        let (known, unknown): (Vec<_>, Vec<_>) = kinds.iter().partition(|kind| kind.known().is_some());
        Self {
            numbers: known.into_iter().map(NamedKind::to_db).collect(),
            names: unknown.into_iter().map(|kind| kind.name().to_owned()).collect(),
        }
    }
}

/// Keys of one stream that the account's seats cover, after `seq`, upwards.
pub(in crate::log) async fn keys_after(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    seq: Seq,
    kinds: &KindFilter,
    limit: i64,
) -> Result<Vec<EntryKey>, Error> {
    let rows = sqlx::query_as!(
        KeyRow,
        r#"select e.pos, e.stream_id, e.seq, e.kind,
                  (octet_length(e.header) + e.content_bytes)::bigint as "bytes!"
           from entry e
           where e.stream_id = $1 and e.seq > $3
             and (cardinality($4::smallint[]) + cardinality($6::text[]) = 0
                  or e.kind = any($4) or e.kind_name = any($6))
             and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2 and not s.held
                         and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
           order by e.seq limit $5"#,
        stream_id,
        account_id,
        seq.to_db(),
        &kinds.numbers,
        limit,
        &kinds.names
    )
    .fetch_all(pool)
    .await?;
    Ok(keys(rows))
}

/// Keys of one stream that the account's seats cover, before `seq`, downwards.
pub(in crate::log) async fn keys_before(
    pool: &PgPool,
    stream_id: i64,
    account_id: i64,
    seq: Seq,
    kinds: &KindFilter,
    limit: i64,
) -> Result<Vec<EntryKey>, Error> {
    let rows = sqlx::query_as!(
        KeyRow,
        r#"select e.pos, e.stream_id, e.seq, e.kind,
                  (octet_length(e.header) + e.content_bytes)::bigint as "bytes!"
           from entry e
           where e.stream_id = $1 and e.seq < $3
             and (cardinality($4::smallint[]) + cardinality($6::text[]) = 0
                  or e.kind = any($4) or e.kind_name = any($6))
             and exists (select 1 from seat s where s.stream_id = $1 and s.account_id = $2 and not s.held
                         and s.from_seq <= e.seq and (s.until_seq is null or e.seq <= s.until_seq))
           order by e.seq desc limit $5"#,
        stream_id,
        account_id,
        seq.to_db(),
        &kinds.numbers,
        limit,
        &kinds.names
    )
    .fetch_all(pool)
    .await?;
    Ok(keys(rows))
}

/// The newest position below the horizon, at which a tailer begins.
pub(in crate::log) async fn newest_readable(pool: &PgPool) -> Result<Cursor, Error> {
    let pos = sqlx::query_scalar!(
        r#"select greatest(coalesce(max(pos), 0), 0) as "pos!" from entry
           where pos < (select base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) from log_origin)"#
    )
    .fetch_one(pool)
    .await?;
    Ok(Cursor::from_db(pos))
}

/// Keys of all streams' entries after `after` and below the horizon, in order. A full page ends where a transaction
/// ends: `limit` must be greater than the number of entries of one transaction.
pub(in crate::log) async fn tail_keys(
    pool: &PgPool,
    after: Cursor,
    limit: i64,
) -> Result<(Vec<EntryKey>, bool), Error> {
    struct TailRow {
        pos: i64,
        stream_id: i64,
        seq: i64,
        kind: i16,
        bytes: i64,
        transaction: i64,
    }
    let mut rows = sqlx::query_as!(
        TailRow,
        r#"select e.pos, e.stream_id, e.seq, e.kind,
                  (octet_length(e.header) + e.content_bytes)::bigint as "bytes!",
                  (e.pos - o.base) >> 10 as "transaction!"
           from log_origin o, entry e
           where e.pos > $1
             and e.pos < o.base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10)
           order by e.pos limit $2"#,
        after.to_db(),
        limit
    )
    .fetch_all(pool)
    .await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    if let (true, Some(cut)) = (full, rows.last().map(|row| row.transaction)) {
        rows.truncate(rows.partition_point(|row| row.transaction < cut));
    }
    let key = |TailRow { pos, stream_id, seq, kind, bytes, .. }| KeyRow { pos, stream_id, seq, kind, bytes };
    Ok((keys(rows.into_iter().map(key).collect()), full))
}

struct EntryRow {
    pos: i64,
    stream_id: i64,
    public_id: String,
    seq: i64,
    epoch: Option<i64>,
    created_at: DateTime<Utc>,
    header: Vec<u8>,
    content: Option<Vec<u8>>,
    hash: Vec<u8>,
}

/// The entries of these keys, in their order. Logs and leaves out an entry whose row does not decode, and a content
/// that does not decode.
pub(in crate::log) async fn read_entries(pool: &PgPool, keys: &[EntryKey]) -> Result<Vec<Event>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let (streams, seqs): (Vec<i64>, Vec<i64>) = keys.iter().map(|key| (key.stream_id, key.seq.to_db())).unzip();
    let rows = sqlx::query_as!(
        EntryRow,
        r#"select e.pos as "pos!", e.stream_id as "stream_id!", t.public_id, e.seq as "seq!", e.epoch,
                  e.created_at as "created_at!", e.header as "header!", e.content, e.hash as "hash!"
           from unnest($1::bigint[], $2::bigint[]) with ordinality as key (stream_id, seq, place)
           cross join lateral (
               select * from entry_content c where c.stream_id = key.stream_id and c.seq = key.seq limit 1
           ) e
           join stream t on t.id = key.stream_id
           order by key.place"#,
        &streams,
        &seqs
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().filter_map(decoded).collect())
}

fn decoded(row: EntryRow) -> Option<Event> {
    let (stream_id, seq) = (row.stream_id, row.seq);
    let failed = |error: &Error, what: &'static str| {
        metrics::counter!(metric_name::LOG_UNDECODABLE).increment(1);
        let error = error as &dyn std::error::Error;
        tracing::error!(error, stream_id, seq, what, "failed to decode stored entry");
    };
    event(row, &failed).inspect_err(|error| failed(error, "entry left out")).ok()
}

fn event(row: EntryRow, failed: &impl Fn(&Error, &'static str)) -> Result<Event, Error> {
    let header = Header::decode(&row.header)?;
    let kind = NamedKind::from_name(&header.kind).ok_or(storage::Error::Corrupt("entry.header"))?;
    let content = row.content.as_deref().map(Content::decode).transpose();
    Ok(Event {
        cursor: Cursor::from_db(row.pos),
        stream_id: row.stream_id,
        stream: StreamId::parse(&row.public_id).map_err(|_| storage::Error::Corrupt("stream.public_id"))?,
        term: header.term,
        seq: Seq::from_db(row.seq),
        kind,
        hash: hash(&row.hash)?,
        time: row.created_at.into(),
        header: row.header,
        content: content.unwrap_or_else(|error| {
            failed(&error.into(), "content left out");
            None
        }),
        epoch: row.epoch.map(Epoch::from_db),
    })
}

/// The facts that decide a cursor's standing.
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
        r#"select greatest(coalesce((select max(pos) from entry), 0), 0) as "newest!",
                  coalesce((select max(aged_pos) from log_sweep), 0) as "aged!",
                  exists (select 1 from log_restore where restored_pos < $1 and $1 <= base) as "lost!""#,
        cursor.to_db()
    )
    .fetch_one(pool)
    .await?;
    Ok(StandingRow { newest: Cursor::from_db(row.newest), aged: Cursor::from_db(row.aged), lost: row.lost })
}
