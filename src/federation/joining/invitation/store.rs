//! SQL on invitations.

use chrono::{DateTime, Utc};

use super::{Invitation, New, State};
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::{Bytes, DeviceId, Did};

fn did(text: &str) -> Result<Did, Error> {
    Did::parse(text).map_err(|_| Error::Corrupt("invitation"))
}

/// Deletes the invitations of these accounts to this stream.
pub async fn clear(conn: &mut PgConnection, stream: &str, account_ids: &[i64]) -> Result<(), Error> {
    sqlx::query!("delete from invitation where stream = $1 and account_id = any($2)", stream, account_ids)
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes one account's invitation to this stream; if another home delivered it, only a finished one.
pub(super) async fn clear_old(
    conn: &mut PgConnection,
    stream: &str,
    account_id: i64,
    is_offer: bool,
) -> Result<(), Error> {
    sqlx::query!(
        "delete from invitation where stream = $1 and account_id = $2 and (not $3 or state in (3, 4))",
        stream,
        account_id,
        is_offer
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn insert(conn: &mut PgConnection, new: &New<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "insert into invitation (account_id, stream, home, inviter, state, offer, from_seq, created_at, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        new.account_id,
        new.stream.as_str(),
        new.home.as_str(),
        new.inviter.map(Did::as_str),
        new.state.to_db(),
        new.offer,
        new.from_seq.to_db(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Passes over the oldest that wait beyond so many.
pub(super) async fn make_room(conn: &mut PgConnection, account_id: i64, most: i64) -> Result<(), Error> {
    sqlx::query!(
        "update invitation set state = 4, offer = null where id in (
             select id from invitation where account_id = $1 and state = 1 order by id desc offset $2
         )",
        account_id,
        most
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn find_for_update(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &str,
) -> Result<Option<Invitation>, Error> {
    let row = sqlx::query!(
        "select id, home, inviter, state from invitation where account_id = $1 and stream = $2
         order by state = 1 desc, id desc limit 1 for no key update",
        account_id,
        stream
    )
    .fetch_optional(conn)
    .await?;
    row.map(|row| {
        Ok(Invitation {
            id: row.id,
            home: did(&row.home)?,
            inviter: row.inviter.as_deref().map(did).transpose()?,
            state: State::from_db(row.state).ok_or(Error::Corrupt("invitation.state"))?,
        })
    })
    .transpose()
}

/// Whatever waits for this account and stream. What is passed over or taken needs its offer no more; what is to be
/// followed does.
pub(super) async fn set_state(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &str,
    state: State,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "update invitation set
             state = $3::smallint, due_at = $4, attempts = 0, offer = case when $3 = 2::smallint then offer end
         where account_id = $1 and stream = $2 and state = 1",
        account_id,
        stream,
        state.to_db(),
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Shows the Welcomes that were held for the account's devices, and answers for which, by which refs.
pub(super) async fn release_welcomes(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &str,
) -> Result<Vec<(DeviceId, Bytes)>, Error> {
    let rows = sqlx::query!(
        "update welcome_pointer p set state = 'waiting'
         from device d, welcome w, stream t
         where p.device_id = d.id and d.account_id = $1 and p.welcome_id = w.id and w.stream_id = t.id
           and t.public_id = $2 and p.state = 'held'
         returning d.public_id, p.ref as reference",
        account_id,
        stream
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let device = DeviceId::parse(&row.public_id).map_err(|_| Error::Corrupt("device.public_id"))?;
            Ok((device, Bytes(row.reference)))
        })
        .collect()
}

/// An invitation that waits for the person.
pub struct Waiting {
    pub stream: String,
    pub home: Did,
    pub inviter: Option<Did>,
    pub created_at: DateTime<Utc>,
}

/// The newest first.
pub async fn list_waiting(pool: &PgPool, account_id: i64) -> Result<Vec<Waiting>, Error> {
    let rows = sqlx::query!(
        "select stream, home, inviter, created_at from invitation i where account_id = $1 and state = 1
             and not exists (
                 select 1 from invitation o
                 where o.account_id = $1 and o.stream = i.stream and o.state = 1 and o.id > i.id
             )
         order by id desc limit 50",
        account_id
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Waiting {
                stream: row.stream,
                home: did(&row.home)?,
                inviter: row.inviter.as_deref().map(did).transpose()?,
                created_at: row.created_at,
            })
        })
        .collect()
}
