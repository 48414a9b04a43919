//! SQL on the seats of accounts that moved.

#[cfg(feature = "next-version")]
use crate::storage::PgConnection;
use crate::storage::{Error, PgPool};
use crate::types::Did;

/// An open seat of the account in a conversation of this home.
pub(super) struct Seated {
    pub stream_id: i64,
    pub stream: String,
    pub from_seq: u64,
    pub epoch: u64,
    pub server: String,
}

/// In the order of the streams' creation, after `after`; all of them, or those named.
pub(super) async fn list_seats(
    pool: &PgPool,
    account: &Did,
    home: &Did,
    only: Option<&[String]>,
    after: i64,
    limit: i64,
) -> Result<Vec<Seated>, Error> {
    let rows = sqlx::query!(
        "select t.id, t.public_id, t.epoch, s.from_seq, s.server
         from account a
         join seat s on s.account_id = a.id and s.until_seq is null and not s.held
         join stream t on t.id = s.stream_id and t.home = $2
         join convo c on c.stream_id = t.id
         where a.did = $1 and t.id > $4 and ($3::text[] is null or t.public_id = any($3))
         order by t.id limit $5",
        account.as_str(),
        home.as_str(),
        only,
        after,
        limit
    )
    .fetch_all(pool)
    .await?;
    let number = |value: i64| u64::try_from(value).unwrap_or_default();
    Ok(rows
        .into_iter()
        .map(|row| Seated {
            stream_id: row.id,
            stream: row.public_id,
            from_seq: number(row.from_seq),
            epoch: number(row.epoch),
            server: row.server,
        })
        .collect())
}

pub(super) async fn note_server(pool: &PgPool, account: &Did, server: &Did) -> Result<(), Error> {
    sqlx::query!("update account set server = $2 where did = $1", account.as_str(), server.as_str())
        .execute(pool)
        .await?;
    Ok(())
}

/// A note of another server, as the later version of the test of upgrades keeps it.
#[cfg(feature = "next-version")]
pub(super) async fn insert_note(conn: &mut PgConnection, account_id: i64, text: &[u8]) -> Result<&'static str, Error> {
    sqlx::query("insert into next_delivery (account_id, text) values ($1, $2)")
        .bind(account_id)
        .bind(String::from_utf8_lossy(text).into_owned())
        .execute(conn)
        .await?;
    Ok("accepted")
}
