//! SQL of what goes with a stream to its next home.

use std::collections::BTreeMap;

use crate::federation::replica::handover::{CallOf, Caller, GroupInfo, LeafKey, Snapshot};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, DeviceId, Did, Epoch, Seq};

pub async fn group_infos(pool: &PgPool, stream_id: i64) -> Result<Vec<GroupInfo>, Error> {
    let rows = sqlx::query!("select epoch, bytes from group_info where stream_id = $1 order by epoch", stream_id);
    let rows = rows.fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| GroupInfo { epoch: Epoch::from_db(row.epoch), bytes: Bytes(row.bytes) }).collect())
}

/// The signature keys of all present leaves of the tree.
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

/// The author and the call of each entry.
pub async fn calls(pool: &PgPool, stream_id: i64, snapshot: &mut Snapshot) -> Result<(), Error> {
    let rows = sqlx::query!(
        r#"select e.seq, c.idem as "idem?", c.request_hash as "request_hash?", a.did, d.public_id
           from entry e join account a on a.id = e.author join device d on d.id = e.device
           left join (select seq, idem, request_hash from call_identity where stream_id = $1) c on c.seq = e.seq
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

/// Writes the former home's snapshot, with the identities of calls in the partition of this period.
pub async fn take_snapshot(
    conn: &mut PgConnection,
    stream_id: i64,
    snapshot: &Snapshot,
    period: i16,
) -> Result<(), Error> {
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
             where a.did = $2 and d.public_id = $3 and d.state = 'foreign' on conflict do nothing",
            stream_id,
            leaf.account.as_str(),
            leaf.device.as_str(),
            leaf.key.as_slice()
        )
        .execute(&mut *conn)
        .await?;
    }
    take_calls(&mut *conn, stream_id, snapshot, period).await?;
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

async fn take_calls(conn: &mut PgConnection, stream_id: i64, snapshot: &Snapshot, period: i16) -> Result<(), Error> {
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
         ), call as materialized (
             select n.*, caller.account_id, caller.device_id
             from unnest($4::bigint[], $5::bigint[], $6::uuid[], $7::bytea[]) n (seq, place, idem, request_hash)
             join caller on caller.place = n.place
             where not exists (
                 select 1 from call_identity o where o.stream_id = $1 and o.idem = n.idem and o.seq <> n.seq
             )
         ), named as (
             update entry e set author = call.account_id, device = call.device_id
             from call where e.stream_id = $1 and e.seq = call.seq
             returning e.seq
         )
         insert into call_identity (period, stream_id, idem, seq, request_hash)
         select $8, $1, call.idem, call.seq, call.request_hash
         from call join named on named.seq = call.seq
         where call.idem is not null and call.request_hash is not null
         on conflict do nothing",
        stream_id,
        &accounts as &[&str],
        &devices as &[&str],
        &seqs,
        &places,
        &idems as &[Option<uuid::Uuid>],
        &hashes as &[Option<Vec<u8>>],
        period
    )
    .execute(conn)
    .await?;
    Ok(())
}

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("account.did"))
}

fn device(text: &str) -> Result<DeviceId, Error> {
    DeviceId::parse(text).map_err(|_| Error::Corrupt("device.public_id"))
}
