//! SQL on which accounts are of this server.

use sqlx::PgConnection;

use crate::storage::Error;
use crate::types::Did;

/// The row of an account that registered a device here.
pub async fn find_local(conn: &mut PgConnection, account: &Did) -> Result<Option<i64>, Error> {
    let id = sqlx::query_scalar!(
        "select id from account where did = $1 and stream_id is not null and server is null",
        account.as_str()
    );
    Ok(id.fetch_optional(conn).await?)
}
