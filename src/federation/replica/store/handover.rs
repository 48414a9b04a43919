//! SQL on streams that go from one home to another.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::federation::replica::Transfer;
use crate::federation::replica::handover::{CallOf, Caller, GroupInfo, LeafKey, Snapshot};
use crate::log::Held;
use crate::storage::Error;
use crate::types::{Bytes, DeviceId, Did, Epoch, Seq, UnixMillis};

/// A move that was asked for, or that happened.
pub struct HandoverRow {
    pub server: String,
    /// The `#homeChanged`, once it did.
    pub seq: Option<Seq>,
}

pub async fn find_handover(pool: &PgPool, stream_id: i64) -> Result<Option<HandoverRow>, Error> {
    let row = sqlx::query!("select server, seq from handover where stream_id = $1", stream_id);
    let row = row.fetch_optional(pool).await?;
    Ok(row.map(|row| HandoverRow { server: row.server, seq: row.seq.map(Seq::from_db) }))
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

/// It went.
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

/// It came: it is no replica any more, and was never handed over.
pub async fn arrived(conn: &mut PgConnection, stream_id: i64) -> Result<(), Error> {
    sqlx::query!("delete from replica where stream_id = $1", stream_id).execute(&mut *conn).await?;
    sqlx::query!("delete from takeover where stream_id = $1", stream_id).execute(&mut *conn).await?;
    sqlx::query!("delete from handover where stream_id = $1", stream_id).execute(&mut *conn).await?;
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

/// Whether this server orders another conversation of its group id.
pub async fn group_is_taken(conn: &mut PgConnection, stream_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from convo c join convo o on o.group_id = c.group_id and not o.is_foreign
               where c.stream_id = $1 and o.stream_id <> $1
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

/// What was told when it was accepted.
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

pub async fn group_infos(pool: &PgPool, stream_id: i64) -> Result<Vec<GroupInfo>, Error> {
    let rows = sqlx::query!("select epoch, bytes from group_info where stream_id = $1 order by epoch", stream_id);
    let rows = rows.fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| GroupInfo { epoch: Epoch::from_db(row.epoch), bytes: Bytes(row.bytes) }).collect())
}

/// Of every leaf that the tree holds now.
pub async fn leaf_keys(pool: &PgPool, stream_id: i64) -> Result<Vec<LeafKey>, Error> {
    let rows = sqlx::query!(
        r#"select a.did, d.public_id, k.public_key as "key!"
           from seat_device l
           join device d on d.id = l.device_id join account a on a.id = l.account_id
           cross join lateral (
               select public_key from device_key where device_id = d.id
               union select public_key from leaf_key where device_id = d.id and stream_id = $1
           ) k
           where l.stream_id = $1 and l.until_seq is null order by a.did, d.public_id"#,
        stream_id
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| Ok(LeafKey { account: did(&row.did)?, device: device(&row.public_id)?, key: Bytes(row.key) }))
        .collect()
}

/// Who made which entry.
pub async fn calls(pool: &PgPool, stream_id: i64, snapshot: &mut Snapshot) -> Result<(), Error> {
    let rows = sqlx::query!(
        r#"select e.seq, e.idem, e.request_hash, a.did, d.public_id
           from entry e join account a on a.id = e.author join device d on d.id = e.device
           where e.stream_id = $1 order by e.seq"#,
        stream_id
    )
    .fetch_all(pool)
    .await?;
    let mut places: BTreeMap<Caller, u64> = BTreeMap::new();
    for row in rows {
        let caller = Caller { account: did(&row.did)?, device: device(&row.public_id)? };
        let next = places.len() as u64;
        let place = *places.entry(caller.clone()).or_insert_with(|| {
            snapshot.callers.push(caller);
            next
        });
        let (idem, hash) = match (row.idem, row.request_hash) {
            (Some(idem), Some(hash)) => (idem.as_bytes().to_vec(), hash),
            _ => Default::default(),
        };
        snapshot.calls.push(CallOf(Seq::from_db(row.seq), place, Bytes(idem), Bytes(hash)));
    }
    Ok(())
}

/// Writes what the home before told beside the log.
pub async fn take_snapshot(conn: &mut PgConnection, stream_id: i64, snapshot: &Snapshot) -> Result<(), Error> {
    for info in &snapshot.group_infos {
        sqlx::query!(
            "insert into group_info (stream_id, epoch, bytes, created_at)
             select $1, $2, $3, s.head_time from stream s where s.id = $1 on conflict do nothing",
            stream_id,
            info.epoch.to_db(),
            info.bytes.as_slice()
        )
        .execute(&mut *conn)
        .await?;
    }
    for leaf in &snapshot.keys {
        sqlx::query!(
            "insert into leaf_key (stream_id, device_id, public_key)
             select $1, d.id, $4 from device d join account a on a.id = d.account_id
             where a.did = $2 and d.public_id = $3 on conflict (stream_id, device_id) do nothing",
            stream_id,
            leaf.account.as_str(),
            leaf.device.as_str(),
            leaf.key.as_slice()
        )
        .execute(&mut *conn)
        .await?;
    }
    take_calls(&mut *conn, stream_id, snapshot).await?;
    for link in &snapshot.lineage {
        let Ok(checkpoint) = crate::log::chain::Checkpoint::of(&link.checkpoint) else { continue };
        sqlx::query!(
            "insert into checkpoint (stream_id, term, seq, statement, key, sig) values ($1, $2, $3, $4, $5, $6)
             on conflict do nothing",
            stream_id,
            checkpoint.term.to_db(),
            checkpoint.seq.to_db(),
            link.checkpoint.statement.as_slice(),
            link.checkpoint.key,
            link.checkpoint.sig.as_slice()
        )
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn take_calls(conn: &mut PgConnection, stream_id: i64, snapshot: &Snapshot) -> Result<(), Error> {
    let accounts: Vec<&str> = snapshot.callers.iter().map(|caller| caller.account.as_str()).collect();
    let devices: Vec<&str> = snapshot.callers.iter().map(|caller| caller.device.as_str()).collect();
    let seqs: Vec<i64> = snapshot.calls.iter().map(|call| call.0.to_db()).collect();
    let places: Vec<i64> = snapshot.calls.iter().map(|call| i64::try_from(call.1 + 1).unwrap_or(i64::MAX)).collect();
    let idems: Vec<Option<uuid::Uuid>> =
        snapshot.calls.iter().map(|call| uuid::Uuid::from_slice(call.2.as_slice()).ok()).collect();
    let hashes: Vec<Option<Vec<u8>>> =
        snapshot.calls.iter().map(|call| (!call.3.0.is_empty()).then(|| call.3.0.clone())).collect();
    sqlx::query!(
        "with caller as (
             select n.place, d.id as device_id, a.id as account_id
             from unnest($2::text[], $3::text[]) with ordinality n (did, device, place)
             join account a on a.did = n.did join device d on d.account_id = a.id and d.public_id = n.device
         )
         update entry e
         set author = caller.account_id, device = caller.device_id, idem = n.idem, request_hash = n.request_hash
         from unnest($4::bigint[], $5::bigint[], $6::uuid[], $7::bytea[]) n (seq, place, idem, request_hash)
         join caller on caller.place = n.place
         where e.stream_id = $1 and e.seq = n.seq",
        stream_id,
        &accounts as &[&str],
        &devices as &[&str],
        &seqs,
        &places,
        &idems as &[Option<uuid::Uuid>],
        &hashes as &[Option<Vec<u8>>]
    )
    .execute(conn)
    .await?;
    Ok(())
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

/// Later, and not for ever: whoever asked for the move asks again.
pub async fn put_off_backfill(pool: &PgPool, stream_id: i64, pause: Duration, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!(
        "update replica set backfill_due_at = $2::timestamptz + make_interval(secs => $3) where stream_id = $1",
        stream_id,
        now.to_datetime(),
        pause.as_secs_f64()
    )
    .execute(pool)
    .await?;
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
        "select seq from entry where stream_id = $1 and seq > $2 and content is null order by seq limit 1",
        stream_id,
        after.to_db()
    );
    Ok(hole.fetch_optional(pool).await?.map(Seq::from_db))
}

/// A content that was missing, of exactly this entry.
pub async fn fill(pool: &PgPool, stream_id: i64, seq: Seq, entry: &Held) -> Result<(), Error> {
    sqlx::query!(
        "update entry set content = $4 where stream_id = $1 and seq = $2 and header = $3 and content is null",
        stream_id,
        seq.to_db(),
        entry.header,
        entry.content
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Of moves that are long over.
pub async fn forget_moves(pool: &PgPool, now: UnixMillis) -> Result<(), Error> {
    sqlx::query!("delete from handover where moved_at < $1::timestamptz - interval '30 days'", now.to_datetime())
        .execute(pool)
        .await?;
    sqlx::query!("delete from takeover where created_at < $1::timestamptz - interval '30 days'", now.to_datetime())
        .execute(pool)
        .await?;
    Ok(())
}

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("account.did"))
}

fn device(text: &str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|_| Error::Corrupt("device.public_id"))
}
