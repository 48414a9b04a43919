//! SQL on seats and leaves.

use super::{device, did};
use crate::log::body::Role;
use crate::log::seats::{ActingMember, Roster, Seat, SeatChange};
use crate::log::{EntryKind, Error, Window};
use crate::storage::{self, PgConnection, PgPool};
use crate::types::Seq;

/// Whether the account ever had a seat here.
pub(in crate::log) async fn was_seated(
    conn: &mut PgConnection,
    stream_id: i64,
    account_id: i64,
) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from seat where stream_id = $1 and account_id = $2) as "was_seated!""#,
        stream_id,
        account_id
    )
    .fetch_one(conn)
    .await?)
}

/// The open seats and leaves of a stream.
pub(in crate::log) async fn roster(conn: &mut PgConnection, stream_id: i64) -> Result<Roster, Error> {
    let mut roster = Roster::default();
    let seats = sqlx::query!(
        "select a.did, s.from_seq, s.role, s.role_name, s.server from seat s join account a on a.id = s.account_id
         where s.stream_id = $1 and s.until_seq is null",
        stream_id
    )
    .fetch_all(&mut *conn)
    .await?;
    for row in seats {
        let role = Role::from_db(row.role, row.role_name.as_deref());
        let seat = Seat { from: Seq::from_db(row.from_seq), role, server: row.server };
        roster.seats.insert(did(&row.did)?, seat);
    }
    let leaves = sqlx::query!(
        "select a.did, d.public_id, l.from_seq from seat_device l
         join account a on a.id = l.account_id join device d on d.id = l.device_id
         where l.stream_id = $1 and l.until_seq is null",
        stream_id
    )
    .fetch_all(conn)
    .await?;
    for row in leaves {
        roster.leaves.insert((did(&row.did)?, device(&row.public_id)?), Seq::from_db(row.from_seq));
    }
    Ok(roster)
}

/// Members that can act, the earliest first: they see their seats and have a leaf. This server does not know whether
/// members of other servers see theirs.
pub(in crate::log) async fn acting_members(
    conn: &mut PgConnection,
    stream_id: i64,
) -> Result<Vec<ActingMember>, Error> {
    let rows = sqlx::query!(
        r#"select a.did, s.role = $2 as "is_admin!", a.suspended_at is not null as "suspended!"
           from seat s join account a on a.id = s.account_id
           where s.stream_id = $1 and s.until_seq is null and not s.held and exists (
               select 1 from seat_device l
               where l.stream_id = s.stream_id and l.account_id = s.account_id and l.until_seq is null
           )
           order by s.from_seq, a.id"#,
        stream_id,
        Role::Admin.to_db()
    );
    let rows = rows.fetch_all(conn).await?.into_iter();
    let member = |account, is_admin, suspended| ActingMember { account, is_admin, suspended };
    rows.map(|row| Ok(member(did(&row.did)?, row.is_admin, row.suspended))).collect()
}

/// An entry from which seats may follow.
pub(in crate::log) struct SeatEntry {
    pub seq: Seq,
    pub kind: EntryKind,
    pub content: Option<Vec<u8>>,
}

/// The next such entries after `after`: at most `limit`, and at most `max_bytes` of content, but at least one.
pub(in crate::log) async fn seat_entries(
    pool: &PgPool,
    stream_id: i64,
    after: Seq,
    limit: i64,
    max_bytes: i64,
) -> Result<Vec<SeatEntry>, Error> {
    let rows = sqlx::query!(
        r#"with sized as (
               select e.seq, row_number() over (order by e.seq) as place,
                      sum(e.content_bytes) over (order by e.seq) as bytes
               from (
                   select seq, content_bytes from entry
                   where stream_id = $1 and seq > $2 and kind in (3, 5) order by seq limit $3
               ) e
           )
           select e.seq as "seq!", e.kind as "kind!", e.content
           from sized z join entry_content e on e.stream_id = $1 and e.seq = z.seq
           where z.place = 1 or z.bytes <= $4
           order by e.seq"#,
        stream_id,
        after.to_db(),
        limit,
        max_bytes
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let kind = EntryKind::from_db(row.kind).ok_or(storage::Error::Corrupt("entry.kind"))?;
            Ok(SeatEntry { seq: Seq::from_db(row.seq), kind, content: row.content })
        })
        .collect()
}

/// Answers those that were held: account and first entry.
pub(in crate::log) async fn delete_seats(conn: &mut PgConnection, stream_id: i64) -> Result<Vec<(i64, i64)>, Error> {
    sqlx::query!("delete from seat_device where stream_id = $1", stream_id).execute(&mut *conn).await?;
    let deleted = sqlx::query!("delete from seat where stream_id = $1 returning account_id, from_seq, held", stream_id)
        .fetch_all(conn)
        .await?;
    Ok(deleted.into_iter().filter(|row| row.held).map(|row| (row.account_id, row.from_seq)).collect())
}

/// Holds seats of this server's accounts that were held before they were rewritten; other servers decide for theirs.
pub(in crate::log) async fn hold_seats(
    conn: &mut PgConnection,
    stream_id: i64,
    held: Vec<(i64, i64)>,
) -> Result<(), Error> {
    let (accounts, from): (Vec<i64>, Vec<i64>) = held.into_iter().unzip();
    sqlx::query!(
        "update seat s set held = true from unnest($2::bigint[], $3::bigint[]) n (account_id, from_seq)
         join account a on a.id = n.account_id and a.stream_id is not null
         where s.stream_id = $1 and s.account_id = n.account_id and s.from_seq = n.from_seq",
        stream_id,
        &accounts,
        &from
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Writes what one entry changed, in one statement for each sort of change: first what begins, then what ends.
pub(in crate::log) async fn write_seats(
    conn: &mut PgConnection,
    stream_id: i64,
    changes: &[SeatChange],
) -> Result<(), Error> {
    open_seats(conn, stream_id, changes).await?;
    set_roles(conn, stream_id, changes).await?;
    set_servers(conn, stream_id, changes).await?;
    add_leaves(conn, stream_id, changes).await?;
    remove_leaves(conn, stream_id, changes).await?;
    close_seats(conn, stream_id, changes).await
}

async fn open_seats(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    let (mut dids, mut from, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    let (mut roles, mut role_names) = (Vec::new(), Vec::new());
    for change in changes {
        if let SeatChange::Opened { account, seat } = change {
            dids.push(account.to_string());
            from.push(seat.from.to_db());
            roles.push(seat.role.to_db());
            role_names.push(seat.role.db_name().map(str::to_owned));
            servers.push(seat.server.clone());
        }
    }
    if dids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into seat (stream_id, account_id, from_seq, role, role_name, server)
         select $1, a.id, n.from_seq, n.role, n.role_name, n.server
         from unnest($2::text[], $3::bigint[], $4::smallint[], $5::text[], $6::text[])
             n (did, from_seq, role, role_name, server)
         join account a on a.did = n.did",
        stream_id,
        &dids,
        &from,
        &roles,
        &role_names as &[Option<String>],
        &servers
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn set_roles(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    for change in changes {
        if let SeatChange::Role { account, role } = change {
            sqlx::query!(
                "update seat s set role = $3, role_name = $4 from account a
                 where s.stream_id = $1 and s.account_id = a.id and a.did = $2 and s.until_seq is null",
                stream_id,
                account.as_str(),
                role.to_db(),
                role.db_name()
            )
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}

async fn set_servers(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    for change in changes {
        if let SeatChange::Moved { account, server } = change {
            sqlx::query!(
                "update seat s set server = $3 from account a
                 where s.stream_id = $1 and s.account_id = a.id and a.did = $2 and s.until_seq is null",
                stream_id,
                account.as_str(),
                server
            )
            .execute(&mut *conn)
            .await?;
        }
    }
    Ok(())
}

async fn add_leaves(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    let (mut dids, mut devices, mut since) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        if let SeatChange::LeafAdded { account, device, from } = change {
            dids.push(account.to_string());
            devices.push(device.to_string());
            since.push(from.to_db());
        }
    }
    if dids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "insert into seat_device (stream_id, device_id, account_id, from_seq)
         select $1, d.id, a.id, n.from_seq
         from unnest($2::text[], $3::text[], $4::bigint[]) n (did, device, from_seq)
         join account a on a.did = n.did join device d on d.account_id = a.id and d.public_id = n.device",
        stream_id,
        &dids,
        &devices,
        &since
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn remove_leaves(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    let (mut dids, mut devices, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        if let SeatChange::LeafRemoved { account, device, until } = change {
            dids.push(account.to_string());
            devices.push(device.to_string());
            ends.push(until.to_db());
        }
    }
    if devices.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update seat_device l set until_seq = n.until_seq
         from unnest($2::text[], $3::text[], $4::bigint[]) n (did, device, until_seq)
         join account a on a.did = n.did join device d on d.account_id = a.id and d.public_id = n.device
         where l.stream_id = $1 and l.device_id = d.id and l.until_seq is null",
        stream_id,
        &dids,
        &devices,
        &ends
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn close_seats(conn: &mut PgConnection, stream_id: i64, changes: &[SeatChange]) -> Result<(), Error> {
    let (mut dids, mut ends) = (Vec::new(), Vec::new());
    for change in changes {
        if let SeatChange::Closed { account, until } = change {
            dids.push(account.to_string());
            ends.push(until.to_db());
        }
    }
    if dids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update seat s set until_seq = n.until_seq
         from unnest($2::text[], $3::bigint[]) n (did, until_seq) join account a on a.did = n.did
         where s.stream_id = $1 and s.account_id = a.id and s.until_seq is null",
        stream_id,
        &dids,
        &ends
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether the account has an open seat there, shown to it or not.
pub(in crate::log) async fn is_seated(pool: &PgPool, stream_id: i64, account_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from seat where stream_id = $1 and account_id = $2 and until_seq is null
           ) as "is_seated!""#,
        stream_id,
        account_id
    )
    .fetch_one(pool)
    .await?)
}

/// The spans of one stream that an account may read, oldest first.
pub(in crate::log) async fn windows(pool: &PgPool, stream_id: i64, account_id: i64) -> Result<Vec<Window>, Error> {
    let rows = sqlx::query!(
        "select from_seq, until_seq from seat where stream_id = $1 and account_id = $2 and not held order by from_seq",
        stream_id,
        account_id
    )
    .fetch_all(pool)
    .await?;
    let window = |from: i64, until: Option<i64>| Window { from: Seq::from_db(from), until: until.map(Seq::from_db) };
    Ok(rows.into_iter().map(|row| window(row.from_seq, row.until_seq)).collect())
}

/// One account's span of one stream.
pub(in crate::log) struct SpanRow {
    pub stream_id: i64,
    pub account_id: i64,
    pub from_seq: i64,
    pub until_seq: Option<i64>,
}

/// All spans of an account, for a new subscription.
pub(in crate::log) async fn spans_of_account(pool: &PgPool, account_id: i64) -> Result<Vec<SpanRow>, Error> {
    Ok(sqlx::query_as!(
        SpanRow,
        "select stream_id, account_id, from_seq, until_seq from seat where account_id = $1 and not held",
        account_id
    )
    .fetch_all(pool)
    .await?)
}

/// All spans in these streams, after entries that changed seats; none of a seat that its account left on this server.
pub(in crate::log) async fn spans_of_streams(pool: &PgPool, stream_ids: &[i64]) -> Result<Vec<SpanRow>, Error> {
    Ok(sqlx::query_as!(
        SpanRow,
        "select stream_id, account_id, from_seq, case when left_here then from_seq - 1 else until_seq end as until_seq
         from seat where stream_id = any($1) and (left_here or not held)",
        stream_ids
    )
    .fetch_all(pool)
    .await?)
}

/// The spans of the accounts that own these streams: they may have accepted a held seat, or left one on this server.
pub(in crate::log) async fn spans_of_owners(pool: &PgPool, stream_ids: &[i64]) -> Result<Vec<SpanRow>, Error> {
    Ok(sqlx::query_as!(
        SpanRow,
        "select s.stream_id, s.account_id, s.from_seq,
                case when s.left_here then s.from_seq - 1 else s.until_seq end as until_seq
         from seat s join account a on a.id = s.account_id
         where a.stream_id = any($1) and (s.left_here or not s.held)",
        stream_ids
    )
    .fetch_all(pool)
    .await?)
}
