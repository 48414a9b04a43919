//! SQL on invitations that are over.

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgPool};

/// Ends invitations from before `before` whose stream could not be followed.
pub(super) async fn give_up_joining(pool: &PgPool, before: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!("update invitation set state = 4, offer = null where state = 2 and created_at < $1", before)
        .execute(pool)
        .await?;
    Ok(())
}

/// Deletes finished invitations from before `before`: at most `limit`. Answers how many.
pub(super) async fn forget_invitations(pool: &PgPool, before: DateTime<Utc>, limit: i64) -> Result<u64, Error> {
    let done = sqlx::query!(
        "delete from invitation where id in (
             select id from invitation where state in (3, 4) and created_at < $1 order by created_at limit $2
         )",
        before,
        limit
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}
