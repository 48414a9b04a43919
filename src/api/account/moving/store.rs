//! SQL on the data that a moving account takes with it.

use chrono::{DateTime, TimeDelta, Utc};

use crate::lexicon::account::{export_data, import_data};
use crate::log::body::Role;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, Did};

pub(super) async fn said_policy(pool: &PgPool, account_id: i64) -> Result<Option<String>, Error> {
    let said = sqlx::query_scalar!("select invitations from account where id = $1", account_id);
    let name = |value: i16| ["everyone", "contacts", "nobody"].get(usize::try_from(value - 1).unwrap_or(usize::MAX));
    Ok(said.fetch_optional(pool).await?.flatten().and_then(name).map(|name| (*name).to_owned()))
}

fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// Open seats in conversations, by the stream's row.
pub(super) async fn list_seats(
    pool: &PgPool,
    account_id: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, export_data::Seat)>, Error> {
    let rows = sqlx::query!(
        "select t.id, t.public_id, t.home, s.from_seq, s.role, s.role_name
         from seat s join stream t on t.id = s.stream_id join convo c on c.stream_id = t.id
         where s.account_id = $1 and s.until_seq is null and not s.held and t.id > $2 order by t.id limit $3",
        account_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let home = Did::parse(&row.home).map_err(|_| Error::Corrupt("stream.home"))?;
            let role = Role::from_db(row.role, row.role_name.as_deref()).name().to_owned();
            Ok((row.id, export_data::Seat { stream: row.public_id, home, from_seq: number(row.from_seq), role }))
        })
        .collect()
}

/// Welcomes that wait for devices of the account, by their pointers.
pub(super) async fn list_welcomes(
    pool: &PgPool,
    account_id: i64,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, export_data::Welcome)>, Error> {
    let rows = sqlx::query!(
        "select p.id, d.public_id as device, t.public_id as stream, w.term, w.seq, w.epoch, p.ref as reference, w.bytes
         from welcome_pointer p
         join device d on d.id = p.device_id and d.account_id = $1
         join welcome w on w.id = p.welcome_id join stream t on t.id = w.stream_id
         where p.state = 'waiting' and p.id > $2 order by p.id limit $3",
        account_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let one = export_data::Welcome {
                device: row.device,
                stream: row.stream,
                term: number(row.term),
                seq: number(row.seq),
                epoch: number(row.epoch),
                r#ref: Bytes(row.reference),
                welcome: Bytes(row.bytes),
            };
            (row.id, one)
        })
        .collect())
}

/// The most relationships, and the most blocks, of an account.
const MOST: i64 = 10_000;

/// The numbers of relationships and blocks that the account may add.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub relationships: usize,
    pub blocks: usize,
}

/// Checked before the transaction begins: concurrent calls may exceed the limit slightly.
pub(super) async fn room(pool: &PgPool, account_id: i64) -> Result<Room, Error> {
    let row = sqlx::query!(
        r#"select (select count(*) from relationship where account_id = $1) as "relationships!",
                  (select count(*) from block where account_id = $1) as "blocks!""#,
        account_id
    )
    .fetch_one(pool)
    .await?;
    let left = |count: i64| usize::try_from(MOST.saturating_sub(count)).unwrap_or_default();
    Ok(Room { relationships: left(row.relationships), blocks: left(row.blocks) })
}

/// A request that is open is open for a week from here on.
pub(super) async fn bring_relationship(
    conn: &mut PgConnection,
    account_id: i64,
    other: &Did,
    state: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into relationship (account_id, other, state, updated_at, expires_at)
         select $1, $2, n.state, $4, case when n.state = 3 then null else $5::timestamptz end
         from (values ('outgoing', 1::smallint), ('incoming', 2), ('accepted', 3)) n (name, state)
         where n.name = $3
         on conflict do nothing",
        account_id,
        other.as_str(),
        state,
        now,
        now + TimeDelta::days(7)
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn bring_block(
    conn: &mut PgConnection,
    account_id: i64,
    other: &Did,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into block (account_id, other, created_at)
         values ($1, $2, $3)
         on conflict do nothing",
        account_id,
        other.as_str(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Whether it waits for its device now, or did before: its conversation is followed.
pub(super) async fn bring_welcome(
    conn: &mut PgConnection,
    account_id: i64,
    brought: &import_data::Welcome,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let stream = sqlx::query_scalar!(
        "select c.stream_id from convo c join stream t on t.id = c.stream_id
         join seat s on s.stream_id = t.id and s.account_id = $2 and s.until_seq is null
         where t.public_id = $1",
        brought.stream,
        account_id
    );
    let Some(stream_id) = stream.fetch_optional(&mut *conn).await? else { return Ok(false) };
    sqlx::query!(
        "with device_of as (
             select id from device where account_id = $1 and public_id = $2 and state <> 'foreign'
                 and not exists (
                     select 1 from welcome_pointer p join welcome w on w.id = p.welcome_id
                     where p.device_id = device.id and p.ref = $7 and w.stream_id = $3
                 )
         ), stored as (
             insert into welcome (stream_id, term, seq, epoch, bytes, created_at, account_id)
             select $3, $4, $5, $6, $8, $9, $1 from device_of returning id
         )
         insert into welcome_pointer (welcome_id, device_id, ref)
         select stored.id, device_of.id, $7 from stored, device_of",
        account_id,
        brought.device,
        stream_id,
        i64::try_from(brought.term).unwrap_or(i64::MAX),
        i64::try_from(brought.seq).unwrap_or(i64::MAX),
        i64::try_from(brought.epoch).unwrap_or(i64::MAX),
        brought.r#ref.as_slice(),
        brought.welcome.as_slice(),
        now
    )
    .execute(conn)
    .await?;
    Ok(true)
}

/// Streams of this home in which a seat of the account is spoken for by another server.
pub(super) async fn seats_elsewhere(pool: &PgPool, account_id: i64, home: &Did) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select t.id from seat s join stream t on t.id = s.stream_id and t.home = $2
         where s.account_id = $1 and s.until_seq is null and s.server <> $2 order by t.id",
        account_id,
        home.as_str()
    )
    .fetch_all(pool)
    .await?)
}
