//! SQL on what homes deliver.

use chrono::{DateTime, Utc};

use super::Offer;
use crate::federation::joining::seating;
use crate::log::body::WelcomeBody;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, DeviceId, Did};

/// Claims of one last-resort package that Welcomes may use in a day; servers that the operator did not allow by name
/// have this many together, counted apart.
const LAST_RESORT_USES: i64 = 10;

pub(super) struct Claim {
    pub reference: Vec<u8>,
    pub claimer: Did,
}

/// Who claimed these packages of the account, for this stream and home, since then; those that are unspent, of devices
/// that stand.
pub(super) async fn claims(
    conn: &mut PgConnection,
    account_id: i64,
    offer: &Offer,
    references: &[Vec<u8>],
    since: DateTime<Utc>,
) -> Result<Vec<Claim>, Error> {
    let rows = sqlx::query!(
        r#"select k.ref as reference, a.did
           from key_package k
           join key_package_claim c on c.key_package_id = k.id and c.stream = $2 and c.home = $3
           join account a on a.id = c.claimer_id
           join device d on d.id = k.device_id and d.state = 'certified'
           where k.account_id = $1 and k.ref = any($4) and c.created_at > $5 and c.spent_at is null
             and (not k.last_resort or (
                 select count(*) from key_package_claim used
                 where used.key_package_id = k.id and used.outside = c.outside and used.spent_at > $5
             ) < $6)"#,
        account_id,
        offer.stream.as_str(),
        offer.home.as_str(),
        references,
        since,
        LAST_RESORT_USES
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let claimer = Did::parse(&row.did).map_err(|_| Error::Corrupt("account.did"))?;
            Ok(Claim { reference: row.reference, claimer })
        })
        .collect()
}

/// The claims are used. A further claim of a last-resort package may be used by another Welcome.
pub(super) async fn spend(
    conn: &mut PgConnection,
    offer: &Offer,
    references: &[Vec<u8>],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update key_package_claim c set spent_at = $4 from key_package k
         where c.key_package_id = k.id and c.stream = $1 and c.home = $2 and k.ref = any($3) and c.spent_at is null",
        offer.stream.as_str(),
        offer.home.as_str(),
        references,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// An offer that was taken, and whose stream is to be followed.
pub(in crate::federation::joining) struct Joinable {
    pub id: i64,
    pub account_id: i64,
    pub offer: Vec<u8>,
    pub attempts: i16,
}

/// The due offers, leased until `until`: a worker that dies leaves them to the next.
pub(in crate::federation::joining) async fn find_joinable(
    pool: &PgPool,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Joinable>, Error> {
    Ok(sqlx::query_as!(
        Joinable,
        r#"update invitation i set due_at = $2
           from (
               select id from invitation where state = 2 and due_at <= $1
               order by due_at limit $3 for no key update skip locked
           ) due
           where i.id = due.id
           returning i.id, i.account_id, coalesce(i.offer, '') as "offer!", i.attempts"#,
        now,
        until,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Sets the time of the next attempt; without a time, the offer is not tried again.
pub(in crate::federation::joining) async fn put_off(
    pool: &PgPool,
    id: i64,
    due_at: Option<DateTime<Utc>>,
) -> Result<(), Error> {
    sqlx::query!(
        "update invitation set
             attempts = least(attempts, 1000) + 1, due_at = coalesce($2, due_at),
             state = case when $2::timestamptz is null then 4 else state end,
             offer = case when $2::timestamptz is null then null else offer end
         where id = $1",
        id,
        due_at
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The stream is followed: its Welcome waits for the devices, and what they are told of it. Nothing if somebody else was
/// quicker, or if there is no Welcome.
pub(in crate::federation::joining) async fn joined(
    conn: &mut PgConnection,
    id: i64,
    stream_id: i64,
    offer: &Offer,
    term: i64,
    now: DateTime<Utc>,
) -> Result<Option<WelcomeBody>, Error> {
    let taken = sqlx::query_scalar!(
        "update invitation set state = 3, offer = null where id = $1 and state = 2 returning account_id",
        id
    );
    let Some(account_id) = taken.fetch_optional(&mut *conn).await? else { return Ok(None) };
    seating::show_seat(conn, account_id, offer.stream.as_str()).await?;
    let Some(welcome) = &offer.welcome else { return Ok(None) };
    let welcome_id = sqlx::query_scalar!(
        "insert into welcome (stream_id, term, seq, epoch, bytes, created_at) values ($1, $2, $3, $4, $5, $6)
         returning id",
        stream_id,
        term,
        offer.from_seq.to_db(),
        i64::try_from(offer.epoch).unwrap_or(i64::MAX),
        welcome.as_slice(),
        now
    )
    .fetch_one(&mut *conn)
    .await?;
    let references: Vec<Vec<u8>> = offer.refs.iter().map(|reference| reference.0.clone()).collect();
    let pointed = sqlx::query!(
        "with pointed as (
             insert into welcome_pointer (welcome_id, device_id, ref)
             select $1, k.device_id, k.ref from key_package k where k.account_id = $2 and k.ref = any($3)
             returning device_id, ref
         )
         select d.public_id, p.ref as reference from pointed p join device d on d.id = p.device_id",
        welcome_id,
        account_id,
        &references
    )
    .fetch_all(conn)
    .await?;
    let mut body = WelcomeBody { stream: offer.stream.clone(), device: Vec::new(), refs: Vec::new() };
    for row in pointed {
        body.device.push(DeviceId::parse(&row.public_id).map_err(|_| Error::Corrupt("device.public_id"))?);
        body.refs.push(Bytes(row.reference));
    }
    Ok(Some(body))
}
