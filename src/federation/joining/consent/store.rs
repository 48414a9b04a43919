//! SQL on accounts' invitation policies, contacts and blocks.

use chrono::{DateTime, Utc};

use super::Facts;
use crate::config::Invitations;
use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

const fn to_db(policy: Invitations) -> i16 {
    match policy {
        Invitations::Everyone => 1,
        Invitations::Contacts => 2,
        Invitations::Nobody => 3,
    }
}

const fn from_db(value: i16) -> Invitations {
    match value {
        1 => Invitations::Everyone,
        2 => Invitations::Contacts,
        _ => Invitations::Nobody,
    }
}

/// All facts of every account, whatever the first of them says: no answer is quicker than another.
pub(super) async fn facts(
    conn: &mut PgConnection,
    inviter: &Did,
    stream: &str,
    account_ids: &[i64],
) -> Result<Vec<Facts>, Error> {
    let rows = sqlx::query!(
        r#"select a.id, a.did = $2 as "own!", a.invitations,
                  exists (select 1 from block b where b.account_id = a.id and b.other = $2) as "blocked!",
                  exists (
                      select 1 from relationship r where r.account_id = a.id and r.other = $2 and r.state = 3
                  ) as "contact!",
                  exists (
                      select 1 from seat s join stream t on t.id = s.stream_id and t.public_id = $3
                      where s.account_id = a.id and s.until_seq is null and not s.held
                  ) as "seated!"
           from account a where a.id = any($1)"#,
        account_ids,
        inviter.as_str(),
        stream
    )
    .fetch_all(conn)
    .await?;
    let facts = rows.into_iter().map(|row| Facts {
        account_id: row.id,
        own: row.own,
        blocked: row.blocked,
        contact: row.contact,
        seated: row.seated,
        policy: row.invitations.map(from_db),
    });
    Ok(facts.collect())
}

/// The accounts of `account_ids` that have a seat in a stream in which this account has one.
pub(super) async fn sharing(conn: &mut PgConnection, account_id: i64, account_ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select distinct theirs.account_id from seat theirs
         join seat own on own.stream_id = theirs.stream_id and own.account_id = $1
             and own.until_seq is null and not own.held
         where theirs.account_id = any($2) and theirs.until_seq is null and not theirs.held",
        account_id,
        account_ids
    )
    .fetch_all(conn)
    .await?)
}

pub(super) async fn find_policy(conn: &mut PgConnection, account_id: i64) -> Result<Option<Invitations>, Error> {
    let said = sqlx::query_scalar!("select invitations from account where id = $1", account_id);
    Ok(said.fetch_optional(conn).await?.flatten().map(from_db))
}

pub async fn set_policy(pool: &PgPool, account_id: i64, policy: Invitations) -> Result<(), Error> {
    sqlx::query!("update account set invitations = $2 where id = $1", account_id, to_db(policy)).execute(pool).await?;
    Ok(())
}

/// Sets an imported invitation policy, unless the account has set one here.
pub async fn say_if_unsaid(conn: &mut PgConnection, account_id: i64, policy: Invitations) -> Result<(), Error> {
    sqlx::query!(
        "update account set invitations = $2 where id = $1 and invitations is null",
        account_id,
        to_db(policy)
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Blocks, and passes over what waits from there; whether there is room for one more.
pub(super) async fn block(
    conn: &mut PgConnection,
    account_id: i64,
    other: &Did,
    most: i64,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let blocked = sqlx::query_scalar!(
        r#"with added as (
               insert into block (account_id, other, created_at)
               select $1, $2, $4 where (select count(*) from block where account_id = $1) < $3
               on conflict do nothing returning other
           )
           select exists (select 1 from added)
               or exists (select 1 from block where account_id = $1 and other = $2) as "blocked!""#,
        account_id,
        other.as_str(),
        most,
        now
    )
    .fetch_one(&mut *conn)
    .await?;
    if blocked {
        sqlx::query!(
            "update invitation set state = 4, offer = null where account_id = $1 and inviter = $2 and state = 1",
            account_id,
            other.as_str()
        )
        .execute(conn)
        .await?;
    }
    Ok(blocked)
}

pub async fn unblock(conn: &mut PgConnection, account_id: i64, other: &Did) -> Result<(), Error> {
    sqlx::query!("delete from block where account_id = $1 and other = $2", account_id, other.as_str())
        .execute(conn)
        .await?;
    Ok(())
}

/// The accounts that the account blocks, by DID, after the given one.
pub async fn blocks(
    pool: &PgPool,
    account_id: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<(Did, DateTime<Utc>)>, Error> {
    let rows = sqlx::query!(
        r#"select other, created_at from block where account_id = $1 and other collate "C" > $2
           order by other collate "C" limit $3"#,
        account_id,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| Ok((Did::parse(&row.other).map_err(|_| Error::Corrupt("block.other"))?, row.created_at)))
        .collect()
}
