//! Conversations with more messages than a test can send: rows as the home would have written them.

use rookery::log::{Content, EntryKind, Head};
use rookery::types::{Clock, Did, Epoch, Hash, Seq, StreamId, Term, UnixMillis};
use sqlx::{Connection, PgConnection, Row};

/// Entries of one transaction: positions within one transaction are 1,024.
const PER_TRANSACTION: usize = 1_000;

/// Writes `count` messages of the account into the stream, each with that body, and chained as the home chains them.
pub async fn write_messages(database: &mut PgConnection, stream: &str, author: &Did, count: usize, body: &[u8]) {
    let mut left = count;
    while left > 0 {
        let entries = left.min(PER_TRANSACTION);
        write(database, stream, author, entries, body).await;
        left -= entries;
    }
}

async fn write(database: &mut PgConnection, stream: &str, author: &Did, count: usize, body: &[u8]) {
    let mut tx = database.begin().await.unwrap();
    let row = sqlx::query(
        "select s.id, s.term, s.epoch, s.head_seq, s.head_hash, (extract(epoch from s.head_time) * 1000)::bigint as time,
                a.id as account_id, (select min(d.id) from device d where d.account_id = a.id) as device_id
         from stream s, account a where s.public_id = $1 and a.did = $2 for no key update of s",
    )
    .bind(stream)
    .bind(author.as_str())
    .fetch_one(&mut *tx)
    .await
    .unwrap();
    let mut head = Head {
        stream: StreamId::parse(stream).unwrap(),
        term: Term::from_db(row.get("term")),
        seq: Seq::from_db(row.get("head_seq")),
        hash: Hash::from_slice(row.get("head_hash")).unwrap(),
        time: UnixMillis(row.get("time")),
    };
    let epoch = Epoch::from_db(row.get("epoch"));
    let first_seq = head.seq.next().to_db();
    let (mut headers, mut contents, mut hashes, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let content = Content::new(body.to_vec(), None);
        let sealed = head.seal(EntryKind::Message, Some(epoch), &content, Clock::System.now()).unwrap();
        headers.push(sealed.header);
        contents.push(sealed.content);
        hashes.push(sealed.hash.to_vec());
        times.push(sealed.time.to_datetime());
    }
    let (id, account_id, device_id): (i64, i64, i64) = (row.get("id"), row.get("account_id"), row.get("device_id"));
    sqlx::query(
        "with origin as materialized (
             select base + (pg_current_xact_id()::text::bigint << 10) - 1 as first_pos from log_origin
         ), message as materialized (
             select o.first_pos + n.place as pos, floor(extract(epoch from now()) / 604800)::smallint as week, n.*
             from origin o, unnest($6::bytea[], $7::bytea[], $8::bytea[], $9::timestamptz[])
                 with ordinality n (header, content, hash, time, place)
         ), contents as (
             insert into content (week, pos, bytes) select week, pos, content from message
         )
         insert into entry (stream_id, seq, pos, epoch, created_at, author, device, kind, header, content_bytes, week, hash)
         select $1, $2 + place - 1, pos, $3, time, $4, $5, 4, header, octet_length(content), week, hash from message",
    )
    .bind(id)
    .bind(first_seq)
    .bind(epoch.to_db())
    .bind(account_id)
    .bind(device_id)
    .bind(headers)
    .bind(contents)
    .bind(hashes)
    .bind(times)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query(
        "update stream set head_seq = $2, head_hash = $3, head_time = $4,
                           head_pos = (select max(pos) from entry where stream_id = $1) where id = $1",
    )
    .bind(id)
    .bind(head.seq.to_db())
    .bind(head.hash.to_vec())
    .bind(head.time.to_datetime())
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}
