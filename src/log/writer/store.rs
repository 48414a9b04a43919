//! The writer's statements: rights of many devices, and a whole batch at once.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Application, Right, Rights, SeatRight};
use crate::log::chain::{Head, Sealed};
use crate::log::store::StreamRow;
use crate::log::{EntryKind, Error};
use crate::storage::{self, PgConnection};

/// Entries to insert, column by column; `index` is the place within the transaction.
#[derive(Default)]
pub(super) struct EntryColumns {
    stream_id: Vec<i64>,
    seq: Vec<i64>,
    index: Vec<i64>,
    epoch: Vec<Option<i64>>,
    created_at: Vec<DateTime<Utc>>,
    author: Vec<Option<i64>>,
    device: Vec<Option<i64>>,
    kind: Vec<i16>,
    idem: Vec<Uuid>,
    request_hash: Vec<Vec<u8>>,
    header: Vec<Vec<u8>>,
    content: Vec<Vec<u8>>,
    hash: Vec<Vec<u8>>,
}

impl EntryColumns {
    pub(super) fn push(&mut self, stream_id: i64, item: &Application, sealed: &Sealed) {
        self.index.push(i64::try_from(self.index.len()).unwrap_or(i64::MAX));
        self.stream_id.push(stream_id);
        self.seq.push(sealed.seq.to_db());
        self.epoch.push(Some(item.epoch.to_db()));
        self.kind.push(EntryKind::Message.to_db());
        self.created_at.push(sealed.time.to_datetime());
        self.author.push(Some(item.author.account_id));
        self.device.push(Some(item.author.device_row));
        self.idem.push(item.identity.idem);
        self.request_hash.push(item.identity.request_hash.to_vec());
        self.header.push(sealed.header.clone());
        self.content.push(sealed.content.clone());
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
}

impl HeadColumns {
    /// `entries` is how many the batch has so far: the stream's last one is the newest of them.
    pub(super) fn push(&mut self, row: &StreamRow, head: &Head, entries: usize) {
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
                   select stream.id from stream where stream.id = n.stream_id limit 1 for update skip locked
               ) s
           ), head as (
               update stream s
               set head_seq = n.seq, head_pos = o.first_pos + n.index, head_time = n.time, head_hash = n.hash
               from origin o, unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
                                     $6::timestamptz[], $7::bytea[])
                   n (stream_id, expected_seq, expected_rules, seq, index, time, hash)
               join free on free.id = n.stream_id
               where s.id = n.stream_id and s.head_seq = n.expected_seq and s.rules = n.expected_rules
                 and s.incarnation = o.incarnation and s.head_pos < o.first_pos
               returning s.id, s.head_pos
           ), added as (
               insert into entry (stream_id, seq, pos, epoch, created_at, author, device, idem, request_hash, kind,
                                  header, content, hash)
               select n.stream_id, n.seq, o.first_pos + n.index, n.epoch, n.created_at, n.author, n.device, n.idem,
                      n.request_hash, n.kind, n.header, n.content, n.hash
               from origin o, unnest($8::smallint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::timestamptz[],
                                     $14::bigint[], $15::bigint[], $16::uuid[], $17::bytea[], $18::bytea[],
                                     $19::bytea[], $20::bytea[])
                   n (kind, stream_id, seq, index, epoch, created_at, author, device, idem, request_hash, header,
                      content, hash)
               join head h on h.id = n.stream_id
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
        &entries.idem,
        &entries.request_hash,
        &entries.header,
        &entries.content,
        &entries.hash,
        incarnation
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.head_pos)).collect())
}

/// The present rights of each (stream, device) pair.
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
