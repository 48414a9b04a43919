//! SQL on the outbox.

use sqlx::{PgConnection, PgPool};

use crate::log::{Error, Outgoing};
use crate::types::UnixMillis;

/// An entry waiting for its account stream.
pub(in crate::log) struct OutboxRow {
    pub id: i64,
    pub stream_id: i64,
    pub kind: i16,
    pub body: Vec<u8>,
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

pub(in crate::log) async fn list_outbox(pool: &PgPool, limit: i64) -> Result<Vec<OutboxRow>, Error> {
    Ok(sqlx::query_as!(
        OutboxRow,
        r#"select o.id, a.stream_id as "stream_id!", o.kind, o.body
           from outbox o join account a on a.id = o.account_id and a.stream_id is not null
           order by o.id limit $1"#,
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Takes these rows out of the outbox, and says which were still there.
pub(in crate::log) async fn delete_outbox(conn: &mut PgConnection, ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!("delete from outbox where id = any($1) returning id", ids).fetch_all(conn).await?)
}
