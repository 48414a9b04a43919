//! SQL on conversations and what an account sees of them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgConnection, PgPool};
use crate::xrpc::Group;

/// Devices of one account in one conversation, when its policy does not say less.
const MAX_DEVICES: usize = 50;
/// Unread messages are counted up to here.
const UNREAD_COUNTED: i64 = 1_000;

pub(in crate::api::mls) async fn group(pool: &PgPool, stream_id: i64) -> Result<Option<Group>, Error> {
    let row = sqlx::query!("select group_id, cipher_suite, policy from convo where stream_id = $1", stream_id)
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|row| Group {
        group_id: row.group_id,
        cipher_suite: u16::try_from(row.cipher_suite).unwrap_or_default(),
        max_devices: row.policy["maxDevices"]
            .as_u64()
            .and_then(|devices| usize::try_from(devices).ok())
            .map_or(MAX_DEVICES, |devices| devices.min(MAX_DEVICES)),
    }))
}

pub(super) struct NewConvo<'a> {
    pub stream_id: i64,
    pub group_id: &'a [u8],
    pub cipher_suite: i32,
    pub policy: &'a serde_json::Value,
    pub metadata: Option<&'a [u8]>,
    pub group_info: &'a [u8],
    pub founder_id: i64,
    pub now: DateTime<Utc>,
}

pub(super) async fn insert_convo(conn: &mut PgConnection, new: &NewConvo<'_>) -> Result<(), Error> {
    sqlx::query!(
        "insert into convo (stream_id, group_id, cipher_suite, handshake_policy, policy, metadata, created_at)
         values ($1, $2, $3, 0, $4, $5, $6)",
        new.stream_id,
        new.group_id,
        new.cipher_suite,
        new.policy,
        new.metadata,
        new.now
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "insert into group_info (stream_id, epoch, bytes, created_at, account_id) values ($1, 0, $2, $3, $4)",
        new.stream_id,
        new.group_info,
        new.now,
        new.founder_id
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// One conversation as its member sees it, without the members.
pub(super) struct ConvoRow {
    pub id: i64,
    pub public_id: String,
    pub term: i64,
    pub epoch: i64,
    pub head_seq: i64,
    pub head_hash: Vec<u8>,
    pub group_id: Vec<u8>,
    pub cipher_suite: i32,
    pub metadata: Option<Vec<u8>>,
    pub created_at: DateTime<Utc>,
    pub role: i16,
    pub role_name: Option<String>,
    pub last_read: i64,
    pub unread: i64,
}

/// Conversations in which the account has an open seat, in the order of their creation, after `after`; one or all.
pub(super) async fn list_convos(
    pool: &PgPool,
    account_id: i64,
    only: Option<i64>,
    after: i64,
    limit: i64,
) -> Result<Vec<ConvoRow>, Error> {
    Ok(sqlx::query_as!(
        ConvoRow,
        r#"select t.id, t.public_id, t.term, t.epoch, t.head_seq, t.head_hash, c.group_id, c.cipher_suite, c.metadata,
                  c.created_at, s.role, s.role_name, coalesce(r.seq, 0) as "last_read!", u.unread as "unread!"
           from seat s
           join stream t on t.id = s.stream_id
           join convo c on c.stream_id = s.stream_id
           left join read_position r on r.account_id = s.account_id and r.stream_id = s.stream_id
           cross join lateral (select greatest(coalesce(r.seq, 0), s.from_seq - 1) as seq) last
           cross join lateral (
               -- Entries of other kinds are few, and have an index of their own.
               select count(*) as entries from (
                   select 1 from entry e
                   where e.stream_id = s.stream_id and e.seq > last.seq and e.kind <> 4 limit $5
               ) counted
           ) other
           cross join lateral (
               select case when other.entries < $5 then least($5, greatest(0, t.head_seq - last.seq - other.entries))
                      else (
                          select count(*) from (
                              select 1 from entry e
                              where e.stream_id = s.stream_id and e.seq > last.seq and e.kind = 4 limit $5
                          ) counted
                      ) end as unread
           ) u
           where s.account_id = $1 and s.until_seq is null and s.stream_id > $3 and ($2::bigint is null or s.stream_id = $2)
             and not s.held
           order by s.stream_id limit $4"#,
        account_id,
        only,
        after,
        limit,
        UNREAD_COUNTED
    )
    .fetch_all(pool)
    .await?)
}

/// A seat with one of its leaves; without, for an account whose leaf is not there yet.
pub(super) struct MemberRow {
    pub stream_id: i64,
    pub did: String,
    pub role: i16,
    pub role_name: Option<String>,
    pub from_seq: i64,
    pub device: Option<String>,
    pub device_from: Option<i64>,
}

/// The approximate bytes of JSON of each conversation's members.
pub(super) async fn roster_bytes(pool: &PgPool, stream_ids: &[i64]) -> Result<HashMap<i64, usize>, Error> {
    let rows = sqlx::query!(
        r#"select s.stream_id, (sum(length(a.did) + 80) + coalesce(sum(l.bytes), 0))::bigint as "bytes!"
           from seat s
           join account a on a.id = s.account_id
           left join lateral (
               select sum(length(d.public_id) + 40) as bytes from seat_device l join device d on d.id = l.device_id
               where l.stream_id = s.stream_id and l.account_id = s.account_id and l.until_seq is null
           ) l on true
           where s.stream_id = any($1) and s.until_seq is null group by s.stream_id"#,
        stream_ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.stream_id, usize::try_from(row.bytes).unwrap_or(usize::MAX))).collect())
}

/// The members of these conversations, ordered by conversation and account.
pub(super) async fn list_members(pool: &PgPool, stream_ids: &[i64]) -> Result<Vec<MemberRow>, Error> {
    Ok(sqlx::query_as!(
        MemberRow,
        r#"select s.stream_id, a.did, s.role, s.role_name, s.from_seq, d.public_id as "device?", l.from_seq as "device_from?"
           from seat s
           join account a on a.id = s.account_id
           left join seat_device l on l.stream_id = s.stream_id and l.account_id = s.account_id and l.until_seq is null
           left join device d on d.id = l.device_id
           where s.stream_id = any($1) and s.until_seq is null
           order by s.stream_id, s.from_seq, a.did, d.public_id"#,
        stream_ids
    )
    .fetch_all(pool)
    .await?)
}
