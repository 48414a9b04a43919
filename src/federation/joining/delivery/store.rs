//! SQL on deliveries to other servers.

use chrono::{DateTime, Utc};

use super::Delivery;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

pub(super) async fn insert(
    conn: &mut PgConnection,
    id: &str,
    delivery: &Delivery<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let references = delivery.welcome.as_ref().map_or(&[][..], |enclosed| &enclosed.references);
    sqlx::query!(
        "insert into delivery
             (public_id, peer, account, kind, body, stream_id, welcome_id, refs, created_at, due_at, sender_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
         -- A home that waits for one word of a moved account is told of all its seats by that word.
         on conflict (account, peer) where kind = 'moveSeats' and state = 'waiting'
         do update set body = case when delivery.body = excluded.body then delivery.body else '{\"streams\": null}' end",
        id,
        delivery.server.as_str(),
        delivery.to.as_str(),
        delivery.kind,
        delivery.body,
        delivery.stream_id,
        delivery.welcome.as_ref().map(|enclosed| enclosed.welcome_id),
        references,
        now,
        delivery.sender
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The numbers of waiting deliveries that the account caused, and of all of its deliveries, each counted up to `most`.
pub(super) async fn counts(pool: &PgPool, account_id: i64, most: i64) -> Result<(i64, i64), Error> {
    let row = sqlx::query!(
        r#"select count(*) filter (where state = 'waiting') as "waiting!", count(*) as "kept!"
           from (select state from delivery where sender_id = $1 limit $2) counted"#,
        account_id,
        most
    )
    .fetch_one(pool)
    .await?;
    Ok((row.waiting, row.kept))
}

/// The homes that in the last day got, or are about to get, these announcements that the account lives here.
pub async fn announced(
    pool: &PgPool,
    account: &Did,
    homes: &[&str],
    bodies: &[serde_json::Value],
    since: DateTime<Utc>,
) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar!(
        "select distinct d.peer from delivery d
         join unnest($2::text[], $3::jsonb[]) n (home, body) on n.home = d.peer and n.body = d.body
         where d.account = $1 and d.kind = 'moveSeats' and d.state in ('waiting', 'accepted') and d.created_at > $4",
        account.as_str(),
        homes as &[&str],
        bodies,
        since
    )
    .fetch_all(pool)
    .await?)
}

/// A due delivery, with the values that its request needs.
pub(super) struct Due {
    pub id: i64,
    pub public_id: String,
    pub peer: String,
    pub account: String,
    pub kind: String,
    pub body: serde_json::Value,
    pub stream_id: Option<i64>,
    pub welcome_id: Option<i64>,
    pub refs: Vec<Vec<u8>>,
    pub attempts: i16,
}

/// The due deliveries, leased until `until`: a worker that dies leaves them to the next.
pub(super) async fn due(
    pool: &PgPool,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Due>, Error> {
    Ok(sqlx::query_as!(
        Due,
        "update delivery d set due_at = $2
         from (
             select id from delivery where state = 'waiting' and due_at <= $1
             order by due_at limit $3 for no key update skip locked
         ) due
         where d.id = due.id
         returning d.id, d.public_id, d.peer, d.account, d.kind, d.body, d.stream_id, d.welcome_id, d.refs, d.attempts",
        now,
        until,
        limit
    )
    .fetch_all(pool)
    .await?)
}

pub(super) async fn find_welcome(pool: &PgPool, id: i64) -> Result<Option<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar!("select bytes from welcome where id = $1", id).fetch_optional(pool).await?)
}

pub(super) async fn answered(pool: &PgPool, id: i64, state: &str, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update delivery set state = $2, answered_at = $3 where id = $1", id, state, now)
        .execute(pool)
        .await?;
    Ok(())
}

pub(super) async fn put_off(pool: &PgPool, id: i64, due_at: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update delivery set attempts = least(attempts, 1000) + 1, due_at = $2 where id = $1", id, due_at)
        .execute(pool)
        .await?;
    Ok(())
}

/// The peer does not know the kind: the delivery is due `soon` where the peer said since that it does, or `late`.
pub(super) async fn put_off_older(
    pool: &PgPool,
    id: i64,
    soon: DateTime<Utc>,
    late: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update delivery d
         set attempts = least(attempts, 1000) + 1,
             due_at = case when exists (
                 select 1 from peer_support p where p.server = d.peer and d.kind = any(p.delivery_kinds)
             ) then $2::timestamptz else $3 end
         where id = $1",
        id,
        soon,
        late
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The account lives on another server now.
pub(super) async fn redirect(pool: &PgPool, id: i64, server: &Did, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update delivery set peer = $2, attempts = 0, due_at = $3 where id = $1", id, server.as_str(), now)
        .execute(pool)
        .await?;
    Ok(())
}

/// Redirects waiting deliveries for the account to its new server.
pub async fn redirect_account(
    conn: &mut PgConnection,
    account: &Did,
    server: &Did,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update delivery set peer = $2, attempts = 0, due_at = $3
         where account = $1 and state = 'waiting' and kind not in ('moveSeats', 'leaveConvo')",
        account.as_str(),
        server.as_str(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Makes all accepted deliveries to one server, or to all, due again.
pub(super) async fn tell_again(pool: &PgPool, peer: Option<&Did>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "update delivery set state = 'waiting', attempts = 0, due_at = $2
         where state in ('accepted', 'pending') and ($1::text is null or peer = $1)",
        peer.map(Did::as_str),
        now
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes deliveries, sent and received, from before `before`: at most `limit` of each. Answers how many.
pub async fn forget(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    let sent = sqlx::query!(
        "delete from delivery where id in (select id from delivery where created_at < $1 order by created_at limit $2)",
        before,
        limit
    )
    .execute(pool)
    .await?;
    let received = sqlx::query!(
        "delete from delivered where ctid in (
             select ctid from delivered where created_at < $1::timestamptz - interval '5 days' limit $2
         )",
        before,
        limit
    )
    .execute(pool)
    .await?;
    Ok(sent.rows_affected().max(received.rows_affected()))
}
