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

/// How many keys the query of an account's streams reads of each stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::log) enum KeysPerStream {
    /// Four times the stream's share of the page, but at least eight.
    Share,
    /// As many as the page has: for an account with one busy stream among many.
    Page,
}

/// Keys of an account's entries, in cursor order.
pub(in crate::log) struct AccountKeys {
    pub keys: Vec<EntryKey>,
    /// There may be entries behind the last key.
    pub more: bool,
}

/// Keys of the entries that an account's seats cover, after `after` and not beyond `upto`, in cursor order: at most
/// `limit`.
///
/// Finds the first entry of each stream behind `after` by binary search on the primary key, since positions rise with
/// seqs. Reads some keys of each stream, and cuts the page where the first stream has keys that were not read.
pub(in crate::log) async fn account_keys(
    pool: &PgPool,
    account_id: i64,
    after: Cursor,
    upto: Option<Cursor>,
    limit: i64,
    per_stream: KeysPerStream,
) -> Result<AccountKeys, Error> {
    let rows = sqlx::query!(
        r#"with recursive horizon as materialized (
               select least(
                   base + (pg_snapshot_xmin(pg_current_snapshot())::text::bigint << 10) - 1,
                   coalesce($3, 9007199254740991)
               ) as last_pos
               from log_origin
           ), span as materialized (
               select s.stream_id, s.from_seq, least(s.until_seq, t.head_seq) as last_seq
               from seat s join stream t on t.id = s.stream_id and t.head_pos > $2
               where s.account_id = $1 and not s.held
           ), share as materialized (
               select least($4::bigint, case when $5 then $4 else greatest(8, 4 * $4 / greatest(1, count(*))) end) as keys
               from span
           ), search as (
               -- The first entry behind the cursor has a seq above low and not above high.
               select stream_id, last_seq, from_seq - 1 as low, last_seq + 1 as high from span where from_seq <= last_seq
               union all
               select s.stream_id, s.last_seq, case when p.pos > $2 then s.low else (s.low + s.high) / 2 end,
                      case when p.pos > $2 then (s.low + s.high) / 2 else s.high end
               from search s
               left join lateral (
                   select pos from entry where entry.stream_id = s.stream_id and entry.seq = (s.low + s.high) / 2 limit 1
               ) p on true
               where s.high - s.low > 1
           ), key as materialized (
               select e.pos, e.stream_id, e.seq, e.kind, octet_length(e.header) + e.content_bytes as bytes,
                      s.high + share.keys <= s.last_seq as is_cut
               from search s
               cross join share
               cross join horizon
               -- Seqs have no holes: a range of seqs has as many entries.
               join entry e on e.stream_id = s.stream_id and e.seq >= s.high
                           and e.seq < s.high + least(share.keys, s.last_seq + 1 - s.high)
               where s.high - s.low = 1 and e.pos <= horizon.last_pos
           ), full_stream as (
               select max(pos) as last_pos from key where is_cut group by stream_id
           ), cut as materialized (
               select min(last_pos) as pos from full_stream
           )
           select key.pos as "pos!", key.stream_id as "stream_id!", key.seq as "seq!", key.kind as "kind!",
                  key.bytes::bigint as "bytes!", cut.pos is not null as "cut!"
           from key cross join cut
           where cut.pos is null or key.pos <= cut.pos
           order by key.pos limit $4"#,
        account_id,
        after.to_db(),
        upto.map(Cursor::to_db),
        limit,
        per_stream == KeysPerStream::Page
    )
    .fetch_all(pool)
    .await?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let more = full || rows.first().is_some_and(|row| row.cut);
    let key = |pos, stream_id, seq, kind, bytes| KeyRow { pos, stream_id, seq, kind, bytes };
    let rows = rows.into_iter().map(|row| key(row.pos, row.stream_id, row.seq, row.kind, row.bytes));
    Ok(AccountKeys { keys: keys(rows.collect()), more })
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
    let positions: Vec<i64> = keys.iter().map(|key| key.cursor.to_db()).collect();
    let rows = sqlx::query_as!(
        EntryRow,
        r#"select e.pos as "pos!", e.stream_id as "stream_id!", t.public_id, e.seq as "seq!", e.epoch,
                  e.created_at as "created_at!", e.header as "header!", e.content, e.hash as "hash!"
           from unnest($1::bigint[], $2::bigint[], $3::bigint[]) with ordinality as key (stream_id, seq, pos, place)
           cross join lateral (
               -- A history that was rewound has another entry there.
               select * from entry_content c
               where c.stream_id = key.stream_id and c.seq = key.seq and c.pos = key.pos limit 1
           ) e
           join stream t on t.id = key.stream_id
           order by key.place"#,
        &streams,
        &seqs,
        &positions
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
