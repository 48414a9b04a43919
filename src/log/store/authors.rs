//! SQL on whether authors may act.

use crate::log::{AuthorState, Error};
use crate::storage::{PgConnection, PgPool};

/// Whether a device and its account may act now.
pub(in crate::log) async fn author_state(conn: &mut PgConnection, device_row: i64) -> Result<AuthorState, Error> {
    let row = sqlx::query!(
        r#"select d.state = 'revoked' as "revoked!", a.suspended_at is not null as "suspended!"
           from device d join account a on a.id = d.account_id where d.id = $1"#,
        device_row
    )
    .fetch_one(conn)
    .await?;
    Ok(AuthorState::of(row.revoked, row.suspended))
}

/// Those of the devices that were revoked, or whose account is suspended.
pub(in crate::log) async fn silenced(pool: &PgPool, device_rows: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select d.id from device d join account a on a.id = d.account_id
         where d.id = any($1) and (d.state = 'revoked' or a.suspended_at is not null)",
        device_rows
    )
    .fetch_all(pool)
    .await?)
}

/// Revoked devices, and devices of suspended accounts, of the accounts that own these streams.
pub(in crate::log) async fn silenced_of_owners(pool: &PgPool, stream_ids: &[i64]) -> Result<Vec<i64>, Error> {
    Ok(sqlx::query_scalar!(
        "select d.id from account a join device d on d.account_id = a.id
         where a.stream_id = any($1) and (d.state = 'revoked' or a.suspended_at is not null)",
        stream_ids
    )
    .fetch_all(pool)
    .await?)
}
