//! SQL on the outbox. When a row is due is judged by the database's clock, which all couriers share.

use std::time::Duration;

use crate::log::{Error, Outgoing};
use crate::storage::{PgConnection, PgPool};
use crate::types::UnixMillis;

/// The entries that wait for one account stream.
pub(in crate::log) struct Queue {
    pub account_id: i64,
    pub stream_id: i64,
    /// At its head, so far.
    pub attempts: i16,
}

/// An entry waiting for its account stream.
pub(in crate::log) struct OutboxRow {
    pub id: i64,
    pub kind: i16,
    pub body: Vec<u8>,
    pub is_due: bool,
}

pub(in crate::log) async fn insert_outbox(
    conn: &mut PgConnection,
    outgoing: &[Outgoing],
    now: UnixMillis,
) -> Result<(), Error> {
    let accounts: Vec<i64> = outgoing.iter().map(|one| one.account_id).collect();
    let kinds: Vec<i16> = outgoing.iter().map(|one| one.kind.to_db()).collect();
    let bodies: Vec<Vec<u8>> = outgoing.iter().map(|one| one.body.clone()).collect();
    sqlx::query!(
        "insert into outbox (account_id, kind, body, created_at)
         select account_id, kind, body, $4 from unnest($1::bigint[], $2::smallint[], $3::bytea[]) u (account_id, kind, body)",
        &accounts,
        &kinds,
        &bodies,
        now.to_datetime()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Withdraws the waiting rows of that kind for these accounts with these bytes.
pub(in crate::log) async fn withdraw(
    conn: &mut PgConnection,
    account_ids: &[i64],
    kind: i16,
    about: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "delete from outbox where account_id = any($1) and kind = $2 and position($3::bytea in body) > 0",
        account_ids,
        kind,
        about
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Queues whose head is due, those that wait longest first.
pub(in crate::log) async fn due_queues(pool: &PgPool, limit: i64) -> Result<Vec<Queue>, Error> {
    Ok(sqlx::query_as!(
        Queue,
        r#"select o.account_id, a.stream_id as "stream_id!", o.attempts
           from outbox o join account a on a.id = o.account_id and a.stream_id is not null
           where o.parked_at is null and o.due_at <= clock_timestamp() and not exists (
               select 1 from outbox p where p.account_id = o.account_id and p.parked_at is null and p.id < o.id
           )
           order by o.id limit $1"#,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Whether this transaction may deliver to the stream; until its end nobody else may. It ends with its courier, however
/// that ends, and takes no transaction id, so its holder holds no reader back.
pub(in crate::log) async fn try_lock_queue(conn: &mut PgConnection, stream_id: i64) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock(hashtextextended('courier of ' || $1::bigint, 0)) as "locked!""#,
        stream_id
    )
    .fetch_one(conn)
    .await?)
}

/// The head of a queue and what follows it.
pub(in crate::log) async fn queued(
    conn: &mut PgConnection,
    account_id: i64,
    limit: i64,
    max_bytes: i64,
) -> Result<Vec<OutboxRow>, Error> {
    Ok(sqlx::query_as!(
        OutboxRow,
        r#"with sized as (
               select q.id, row_number() over (order by q.id) as place,
                      sum(octet_length(q.body)) over (order by q.id) as bytes
               from (
                   select id, body from outbox where account_id = $1 and parked_at is null order by id limit $2
               ) q
           )
           select o.id, o.kind, o.body, o.due_at <= clock_timestamp() as "is_due!"
           from sized z join outbox o on o.id = z.id
           where z.place = 1 or z.bytes <= $3
           order by o.id"#,
        account_id,
        limit,
        max_bytes
    )
    .fetch_all(conn)
    .await?)
}

pub(in crate::log) async fn delete_outbox(conn: &mut PgConnection, ids: &[i64]) -> Result<(), Error> {
    sqlx::query!("delete from outbox where id = any($1)", ids).execute(conn).await?;
    Ok(())
}

/// The head of this queue failed: it is due again later, or after so many `attempts` set aside, and then its id is
/// answered.
pub(in crate::log) async fn put_off(
    pool: &PgPool,
    account_id: i64,
    due_in: Duration,
    attempts: i16,
) -> Result<Option<i64>, Error> {
    let row = sqlx::query!(
        r#"update outbox set
               attempts = attempts + 1,
               due_at = clock_timestamp() + make_interval(secs => $2),
               parked_at = case when attempts + 1 >= $3::smallint then clock_timestamp() end
           where id = (select min(id) from outbox where account_id = $1 and parked_at is null)
           returning id, parked_at is not null as "parked!""#,
        account_id,
        due_in.as_secs_f64(),
        attempts
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.filter(|row| row.parked).map(|row| row.id))
}
