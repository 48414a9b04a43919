//! SQL on relationships.

use chrono::{DateTime, Utc};

use super::State;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

fn state(value: i16) -> Result<State, Error> {
    State::from_db(value).ok_or(Error::Corrupt("relationship.state"))
}

/// Lets one change between two accounts go first, whichever of them makes it.
pub(super) async fn lock(conn: &mut PgConnection, one: &Did, other: &Did) -> Result<(), Error> {
    let (first, second) = if one < other { (one, other) } else { (other, one) };
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended('relationship of ' || $1::text || ' ' || $2::text, 0))",
        first.as_str(),
        second.as_str()
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The present state; an expired request does not count.
pub(super) async fn find(
    conn: &mut PgConnection,
    account_id: i64,
    other: &Did,
    now: DateTime<Utc>,
) -> Result<Option<State>, Error> {
    let found = sqlx::query_scalar!(
        "select state from relationship
         where account_id = $1 and other = $2 and (expires_at is null or expires_at > $3)",
        account_id,
        other.as_str(),
        now
    );
    found.fetch_optional(conn).await?.map(state).transpose()
}

pub(super) async fn put(
    conn: &mut PgConnection,
    account_id: i64,
    other: &Did,
    state: State,
    note: Option<&[u8]>,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into relationship (account_id, other, state, note, updated_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (account_id, other) do update set
             state = excluded.state, note = excluded.note, updated_at = excluded.updated_at,
             expires_at = excluded.expires_at",
        account_id,
        other.as_str(),
        state.to_db(),
        note,
        now,
        expires_at
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn delete(conn: &mut PgConnection, account_id: i64, other: &Did) -> Result<(), Error> {
    sqlx::query!("delete from relationship where account_id = $1 and other = $2", account_id, other.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// Contacts and open requests; those that are over go.
pub(super) async fn count(conn: &mut PgConnection, account_id: i64, now: DateTime<Utc>) -> Result<i64, Error> {
    sqlx::query!("delete from relationship where account_id = $1 and expires_at <= $2", account_id, now)
        .execute(&mut *conn)
        .await?;
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from relationship where account_id = $1"#, account_id)
        .fetch_one(conn)
        .await?)
}

/// Drops the oldest requests of others beyond so many.
pub(super) async fn make_room(conn: &mut PgConnection, account_id: i64, most: i64) -> Result<(), Error> {
    sqlx::query!(
        "delete from relationship r using (
             select other from relationship where account_id = $1 and state = 2
             order by updated_at desc, other offset $2
         ) old where r.account_id = $1 and r.other = old.other",
        account_id,
        most
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub async fn is_blocked(conn: &mut PgConnection, account_id: i64, other: &Did) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (select 1 from block where account_id = $1 and other = $2) as "blocked!""#,
        account_id,
        other.as_str()
    )
    .fetch_one(conn)
    .await?)
}

/// One line of an account's list.
pub struct Listed {
    pub other: Did,
    pub state: State,
    pub note: Option<Vec<u8>>,
    pub updated_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// The account's relationships, by DID, after the given one; of all states or one.
pub async fn list(
    pool: &PgPool,
    account_id: i64,
    only: Option<State>,
    after: &str,
    limit: i64,
    now: DateTime<Utc>,
) -> Result<Vec<Listed>, Error> {
    let rows = sqlx::query!(
        r#"select other, state, note, updated_at, expires_at from relationship
           where account_id = $1 and ($2::smallint is null or state = $2) and other collate "C" > $3
             and (expires_at is null or expires_at > $5)
           order by other collate "C" limit $4"#,
        account_id,
        only.map(State::to_db),
        after,
        limit,
        now
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Listed {
                other: Did::parse(&row.other).map_err(|_| Error::Corrupt("relationship.other"))?,
                state: state(row.state)?,
                note: row.note,
                updated_at: row.updated_at,
                expires_at: row.expires_at,
            })
        })
        .collect()
}
