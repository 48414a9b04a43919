//! SQL on which accounts are of this server.

use std::collections::{BTreeSet, HashSet};

use crate::storage::{Error, PgConnection, PgPool};
use crate::types::Did;

/// The row of an account that registered a device here and has not moved away.
pub async fn find_local(conn: &mut PgConnection, account: &Did) -> Result<Option<i64>, Error> {
    let id = sqlx::query_scalar!(
        "select id from account where did = $1 and stream_id is not null and server is null",
        account.as_str()
    );
    Ok(id.fetch_optional(conn).await?)
}

/// The accounts that registered a device here and have not moved away.
pub(super) async fn list_local(pool: &PgPool, accounts: &BTreeSet<Did>) -> Result<HashSet<Did>, Error> {
    let dids: Vec<String> = accounts.iter().map(Did::to_string).collect();
    let rows = sqlx::query_scalar!(
        "select did from account where did = any($1) and stream_id is not null and server is null",
        &dids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.iter().filter_map(|did| Did::parse(did).ok()).collect())
}

/// What the account's document names now; whether the account ever registered here.
pub async fn note_server(pool: &PgPool, account: &Did, server: &Did) -> Result<bool, Error> {
    let registered = sqlx::query_scalar!(
        r#"update account set server = $2 where did = $1 returning stream_id is not null as "registered!""#,
        account.as_str(),
        server.as_str()
    );
    Ok(registered.fetch_optional(pool).await?.unwrap_or(false))
}
