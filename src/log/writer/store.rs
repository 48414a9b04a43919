//! The writer's statements: rights of many devices, and a whole batch at once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Application, Right, Rights, SeatRight};
use crate::log::chain::{Head, Sealed};
use crate::log::partitions::TimePartitions;
use crate::log::retention::Keep;
use crate::log::store::StreamRow;
use crate::log::{Author, CallIdentity, EntryKind, Error};
use crate::storage::{self, PgConnection};
use crate::types::Epoch;

/// What an entry's row holds beside its header, content and hash.
pub(in crate::log) struct NewEntry<'a> {
    pub kind: EntryKind,
    pub epoch: Option<Epoch>,
    author: Option<&'a Author>,
    identity: Option<CallIdentity>,
}

impl<'a> NewEntry<'a> {
    pub(in crate::log) fn of(item: &'a Application) -> Self {
        let (epoch, author, identity) = (Some(item.epoch), Some(&item.author), Some(item.identity));
        Self { kind: EntryKind::Message, epoch, author, identity }
    }

    /// Of the server itself.
    pub(in crate::log) fn notice(kind: EntryKind) -> Self {
        Self { kind, epoch: None, author: None, identity: None }
    }
}

/// Entries to insert, column by column; `index` is the place within the transaction.
pub(in crate::log) struct EntryColumns {
    at: TimePartitions,
    begins: i64,
    stream_id: Vec<i64>,
    seq: Vec<i64>,
    index: Vec<i64>,
    epoch: Vec<Option<i64>>,
    created_at: Vec<DateTime<Utc>>,
    author: Vec<Option<i64>>,
    device: Vec<Option<i64>>,
    kind: Vec<i16>,
    week: Vec<i16>,
    idem: Vec<Option<Uuid>>,
    request_hash: Vec<Option<Vec<u8>>>,
    header: Vec<Vec<u8>>,
    content: Vec<Vec<u8>>,
    hash: Vec<Vec<u8>>,
}

impl EntryColumns {
    /// For a transaction that has no entries yet.
    pub(in crate::log) fn at(at: TimePartitions) -> Self {
        Self::after(0, at)
    }

    /// For a transaction that has `begins` entries already.
    pub(in crate::log) fn after(begins: i64, at: TimePartitions) -> Self {
        Self {
            at,
            begins,
            stream_id: Vec::new(),
            seq: Vec::new(),
            index: Vec::new(),
            epoch: Vec::new(),
            created_at: Vec::new(),
            author: Vec::new(),
            device: Vec::new(),
            kind: Vec::new(),
            week: Vec::new(),
            idem: Vec::new(),
            request_hash: Vec::new(),
            header: Vec::new(),
            content: Vec::new(),
            hash: Vec::new(),
        }
    }

    pub(in crate::log) fn push(&mut self, stream_id: i64, entry: &NewEntry<'_>, sealed: Sealed) {
        self.index.push(self.begins.saturating_add_unsigned(self.index.len() as u64));
        self.stream_id.push(stream_id);
        self.seq.push(sealed.seq.to_db());
        self.epoch.push(entry.epoch.map(Epoch::to_db));
        self.kind.push(entry.kind.to_db());
        self.week.push(self.at.week_of(Keep::of(entry.kind)));
        self.created_at.push(sealed.time.to_datetime());
        self.author.push(entry.author.map(|author| author.account_id));
        self.device.push(entry.author.map(|author| author.device_row));
        self.idem.push(entry.identity.map(|identity| identity.idem));
        self.request_hash.push(entry.identity.map(|identity| identity.request_hash.to_vec()));
        self.header.push(sealed.header);
        self.content.push(sealed.content);
        self.hash.push(sealed.hash.to_vec());
    }

    pub(super) fn len(&self) -> usize {
        self.seq.len()
    }
}

/// Heads to compare and set, column by column.
#[derive(Default)]
pub(super) struct HeadColumns {
    stream_id: Vec<i64>,
    expected_seq: Vec<i64>,
    expected_rules: Vec<i64>,
    seq: Vec<i64>,
    index: Vec<i64>,
    time: Vec<DateTime<Utc>>,
    hash: Vec<Vec<u8>>,
    bytes: Vec<i64>,
}

impl HeadColumns {
    /// `entries` is how many the batch has so far: the stream's last one is the newest of them. `bytes` are those that
    /// the stream grows by.
    pub(super) fn push(&mut self, row: &StreamRow, head: &Head, entries: usize, bytes: usize) {
        self.bytes.push(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.stream_id.push(row.id);
        self.expected_seq.push(row.head_seq.to_db());
        self.expected_rules.push(row.rules);
        self.seq.push(head.seq.to_db());
        self.index.push(i64::try_from(entries).unwrap_or(i64::MAX) - 1);
        self.time.push(head.time.to_datetime());
        self.hash.push(head.hash.to_vec());
    }
}

/// Writes the batch in one statement: the streams that stood where they were expected, with the position of their new
/// heads. A stream that is not in the answer was not touched.
pub(super) async fn write_batch(
    conn: &mut PgConnection,
    incarnation: i64,
    heads: &HeadColumns,
    entries: &EntryColumns,
) -> Result<HashMap<i64, i64>, storage::Error> {
    let rows = sqlx::query!(
        r#"with origin as materialized (
               select base + (pg_current_xact_id()::text::bigint << 10) as first_pos, incarnation
               from log_origin where incarnation = $21
           ), free as (
               -- A stream that somebody else holds must not make the others wait: it is not in the answer.
               select s.id from unnest($1::bigint[]) n (stream_id)
               cross join lateral (
                   select stream.id from stream where stream.id = n.stream_id limit 1 for no key update skip locked
               ) s
           ), head as (
               update stream s
               set head_seq = n.seq, head_pos = o.first_pos + n.index, head_time = n.time, head_hash = n.hash,
                   size_bytes = s.size_bytes + n.bytes
               from origin o, unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                                     $6::timestamptz[], $7::bytea[], $22::bigint[])
                   n (stream_id, expected_seq, expected_rules, seq, index, time, hash, bytes)
               join free on free.id = n.stream_id
               where s.id = n.stream_id and s.head_seq = n.expected_seq and s.rules = n.expected_rules
                 and s.incarnation = o.incarnation and s.head_pos < o.first_pos
               returning s.id, s.head_pos
           ), fresh as materialized (
               select o.first_pos + n.index as pos, n.*
               from origin o, unnest($8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::timestamptz[],
                                     $14::bigint[], $15::bigint[], $16::uuid[], $17::bytea[], $18::bytea[],
                                     $19::bytea[], $20::bytea[], $23::smallint[])
                   n (kind, stream_id, seq, index, epoch, created_at, author, device, idem, request_hash, header,
                      content, hash, week)
               join head h on h.id = n.stream_id
           ), added as (
               insert into entry (stream_id, seq, pos, created_at, epoch, author, device, content_bytes, week, kind,
                                  header, hash)
               select stream_id, seq, pos, created_at, epoch, author, device, octet_length(content), week, kind, header,
                      hash
               from fresh
           ), contents as (
               insert into content (week, pos, bytes) select week, pos, content from fresh
           ), called as (
               insert into call_identity (period, stream_id, idem, seq, request_hash)
               select $24::smallint, stream_id, idem, seq, request_hash from fresh where idem is not null
           )
           select id as "id!", head_pos as "head_pos!" from head"#,
        &heads.stream_id,
        &heads.expected_seq,
        &heads.expected_rules,
        &heads.seq,
        &heads.index,
        &heads.time,
        &heads.hash,
        &entries.kind,
        &entries.stream_id,
        &entries.seq,
        &entries.index,
        &entries.epoch as &[Option<i64>],
        &entries.created_at,
        &entries.author as &[Option<i64>],
        &entries.device as &[Option<i64>],
        &entries.idem as &[Option<Uuid>],
        &entries.request_hash as &[Option<Vec<u8>>],
        &entries.header,
        &entries.content,
        &entries.hash,
        incarnation,
        &heads.bytes,
        &entries.week,
        entries.at.period
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.head_pos)).collect())
}

/// Writes entries of a stream whose row this transaction holds.
pub(in crate::log) async fn insert_entries(
    conn: &mut PgConnection,
    first_pos: i64,
    entries: &EntryColumns,
) -> Result<(), Error> {
    sqlx::query!(
        "with fresh as materialized (
             select $1 + n.index as pos, n.*
             from unnest($2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[],
                         $8::bigint[], $9::bigint[], $10::uuid[], $11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[],
                         $15::smallint[])
                 n (kind, stream_id, seq, index, epoch, created_at, author, device, idem, request_hash, header, content,
                    hash, week)
         ), contents as (
             insert into content (week, pos, bytes) select week, pos, content from fresh
         ), called as (
             insert into call_identity (period, stream_id, idem, seq, request_hash)
             select $16::smallint, stream_id, idem, seq, request_hash from fresh where idem is not null
         )
         insert into entry (stream_id, seq, pos, created_at, epoch, author, device, content_bytes, week, kind, header,
                            hash)
         select stream_id, seq, pos, created_at, epoch, author, device, octet_length(content), week, kind, header, hash
         from fresh",
        first_pos,
        &entries.kind,
        &entries.stream_id,
        &entries.seq,
        &entries.index,
        &entries.epoch as &[Option<i64>],
        &entries.created_at,
        &entries.author as &[Option<i64>],
        &entries.device as &[Option<i64>],
        &entries.idem as &[Option<Uuid>],
        &entries.request_hash as &[Option<Vec<u8>>],
        &entries.header,
        &entries.content,
        &entries.hash,
        &entries.week,
        entries.at.period
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What each (stream, device) pair may do now.
pub(super) async fn rights(conn: &mut PgConnection, pairs: &[(i64, i64)]) -> Result<Rights, Error> {
    let (streams, devices): (Vec<i64>, Vec<i64>) = pairs.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"select n.stream_id as "stream_id!", n.device_id as "device_id!", seat.past as "was_seated!", seat.open as "has_seat!",
                  seat.known as "has_known_role!", leaf.open as "has_leaf!"
           from unnest($1::bigint[], $2::bigint[]) n (stream_id, device_id)
           join device d on d.id = n.device_id
           cross join lateral (
               select count(*) > 0 as past, count(*) filter (where s.until_seq is null) > 0 as open,
                      -- A role that is kept by its name is of a later version.
                      count(*) filter (where s.until_seq is null and s.role in (1, 2)) > 0 as known
               from seat s where s.stream_id = n.stream_id and s.account_id = d.account_id and not s.held
           ) seat
           cross join lateral (
               select exists (select 1 from seat_device l where l.stream_id = n.stream_id and l.device_id = n.device_id
                              and l.until_seq is null) as open
           ) leaf"#,
        &streams,
        &devices
    )
    .fetch_all(conn)
    .await?;
    let right = rows.into_iter().map(|row| {
        let seat = match (row.has_known_role, row.has_seat, row.was_seated) {
            (true, ..) => SeatRight::Open,
            (_, true, _) => SeatRight::UnknownRole,
            (.., true) => SeatRight::Ended,
            (.., false) => SeatRight::Never,
        };
        let right = Right { seat, has_leaf: row.has_leaf };
        ((row.stream_id, row.device_id), right)
    });
    Ok(right.collect())
}
