//! SQL of entries that were ordered elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::log::adopt::{Entry, Move, handed};
use crate::log::chain::{Content, Header};
use crate::log::seats::SeatChange;
use crate::log::store::StreamRow;
use crate::log::{Error, StreamState};
use crate::storage::{PgConnection, PgPool};
use crate::types::{Epoch, Seq, StreamId, UnixMillis};

pub(in crate::log) async fn find_stream_id(pool: &PgPool, stream: &StreamId) -> Result<Option<i64>, Error> {
    let id = sqlx::query_scalar!("select id from stream where public_id = $1", stream.as_str());
    Ok(id.fetch_optional(pool).await?)
}

pub(in crate::log) async fn set_state(
    conn: &mut PgConnection,
    stream_id: i64,
    state: StreamState,
) -> Result<(), Error> {
    sqlx::query!("update stream set state = $2, rules = rules + 1 where id = $1", stream_id, state.to_db())
        .execute(conn)
        .await?;
    Ok(())
}

/// The headers that are held from one number to another, both included.
pub(in crate::log) async fn headers(
    conn: &mut PgConnection,
    stream_id: i64,
    from: Seq,
    until: Seq,
) -> Result<BTreeMap<Seq, Vec<u8>>, Error> {
    let rows = sqlx::query!(
        "select seq, header from entry where stream_id = $1 and seq between $2 and $3",
        stream_id,
        from.to_db(),
        until.to_db()
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (Seq::from_db(row.seq), row.header)).collect())
}

/// The header of the first stored entry.
pub(in crate::log) async fn first_header(conn: &mut PgConnection, stream_id: i64) -> Result<Option<Header>, Error> {
    let header = sqlx::query_scalar!("select header from entry where stream_id = $1 order by seq limit 1", stream_id);
    Ok(header.fetch_optional(conn).await?.as_deref().map(Header::decode).transpose()?)
}

/// Streams whose newest entry is not applied, in the order of their ids.
pub(in crate::log) async fn unapplied_streams(pool: &PgPool, after: i64, limit: i64) -> Result<Vec<i64>, Error> {
    let ids =
        sqlx::query_scalar!("select id from stream where unapplied and id > $1 order by id limit $2", after, limit);
    Ok(ids.fetch_all(pool).await?)
}

/// The header and content of one entry, as its home made them.
pub(in crate::log) async fn entry_as_made(
    conn: &mut PgConnection,
    stream_id: i64,
    seq: Seq,
) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
    let row = sqlx::query!(
        r#"select header as "header!", content from entry_content where stream_id = $1 and seq = $2"#,
        stream_id,
        seq.to_db()
    )
    .fetch_one(conn)
    .await?;
    Ok((row.header, row.content))
}

/// Records that the newest entry is applied, with its seats and epoch.
pub(in crate::log) async fn set_applied(conn: &mut PgConnection, row: &StreamRow) -> Result<(), Error> {
    sqlx::query!(
        "update stream set unapplied = false, rules = rules + 1, epoch = $2, epoch_floor = $3 where id = $1",
        row.id,
        row.epoch.to_db(),
        row.epoch_floor.to_db()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The move that this entry makes, if it is one.
pub(in crate::log) async fn find_move(
    conn: &mut PgConnection,
    stream_id: i64,
    seq: Seq,
) -> Result<Option<Move>, Error> {
    let row = sqlx::query!(
        r#"select header as "header!", content as "content!" from entry_content
           where stream_id = $1 and seq = $2 and kind = 23 and content is not null"#,
        stream_id,
        seq.to_db()
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (header, content) = (Header::decode(&row.header)?, Content::decode(&row.content)?);
    Ok(Some(handed(&header, &content.body)?))
}

/// Inserts entries as they were made, at positions of this database from `first_pos` on. Stores the content of each in
/// the partition of its week, and drops a content without a week.
pub(in crate::log) async fn adopt_entries(
    conn: &mut PgConnection,
    stream_id: i64,
    first_pos: i64,
    entries: &[Entry<'_>],
    weeks: &[Option<i16>],
) -> Result<(), Error> {
    let seqs: Vec<i64> = entries.iter().map(|entry| entry.header.seq.to_db()).collect();
    let epochs: Vec<Option<i64>> = entries.iter().map(|entry| entry.header.epoch.map(Epoch::to_db)).collect();
    let times: Vec<DateTime<Utc>> = entries.iter().map(|entry| entry.header.time.to_datetime()).collect();
    let kinds: Vec<i16> = entries.iter().map(|entry| entry.kind.to_db()).collect();
    let names: Vec<Option<String>> = entries.iter().map(|entry| entry.kind.db_name().map(str::to_owned)).collect();
    let headers: Vec<Vec<u8>> = entries.iter().map(|entry| entry.bytes.to_vec()).collect();
    let stored = |(entry, week): (&Entry<'_>, &Option<i16>)| week.and(entry.stored).map(<[u8]>::to_vec);
    let contents: Vec<Option<Vec<u8>>> = entries.iter().zip(weeks).map(stored).collect();
    let weeks: Vec<i16> = weeks.iter().map(|week| week.unwrap_or_default()).collect();
    let hashes: Vec<Vec<u8>> = entries.iter().map(|entry| entry.hash.to_vec()).collect();
    sqlx::query!(
        "with fresh as materialized (
             select $2 + n.index - 1 as pos, n.*
             from unnest($3::bigint[], $4::bigint[], $5::timestamptz[], $6::smallint[], $7::bytea[], $8::bytea[],
                         $9::bytea[], $10::text[], $11::smallint[]) with ordinality
                 n (seq, epoch, created_at, kind, header, content, hash, kind_name, week, index)
         ), contents as (
             insert into content (week, pos, bytes) select week, pos, content from fresh where content is not null
         )
         insert into entry (stream_id, seq, pos, created_at, epoch, content_bytes, week, kind, header, hash, kind_name)
         select $1, seq, pos, created_at, epoch, coalesce(octet_length(content), 0), week, kind, header, hash, kind_name
         from fresh",
        stream_id,
        first_pos,
        &seqs,
        &epochs as &[Option<i64>],
        &times,
        &kinds,
        &headers,
        &contents as &[Option<Vec<u8>>],
        &hashes,
        &names as &[Option<String>],
        &weeks
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Creates rows for accounts and devices that seats are about to name and that have not registered here.
pub(in crate::log) async fn know_members(
    conn: &mut PgConnection,
    changes: &[Vec<SeatChange>],
    now: UnixMillis,
) -> Result<(), Error> {
    // In order, so that two who make the same rows never wait for each other in a circle.
    let (mut accounts, mut devices) = (BTreeSet::new(), BTreeSet::new());
    for change in changes.iter().flatten() {
        match change {
            SeatChange::Opened { account, .. } => drop(accounts.insert(account.to_string())),
            SeatChange::LeafAdded { account, device, .. } => {
                accounts.insert(account.to_string());
                devices.insert((account.to_string(), device.to_string()));
            }
            SeatChange::Role { .. }
            | SeatChange::Moved { .. }
            | SeatChange::Closed { .. }
            | SeatChange::LeafRemoved { .. } => {}
        }
    }
    let accounts: Vec<String> = accounts.into_iter().collect();
    let (owners, devices): (Vec<String>, Vec<String>) = devices.into_iter().unzip();
    sqlx::query!(
        "insert into account (did, created_at)
         select n.did, $2 from unnest($1::text[]) n (did)
         where not exists (select 1 from account a where a.did = n.did)
         on conflict do nothing",
        &accounts,
        now.to_datetime()
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
         select a.id, n.device, '', 'EdDSA', 'app', 'foreign', $3
         from unnest($1::text[], $2::text[]) n (did, device) join account a on a.did = n.did
         where not exists (select 1 from device d where d.account_id = a.id and d.public_id = n.device)
         on conflict do nothing",
        &owners,
        &devices,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}
