//! SQL on seats that accounts left on this server alone.

use chrono::{DateTime, Utc};

use crate::storage::{Error, PgConnection, PgPool};

/// Hides the account's open seat. Answers whether the account saw one until now.
pub(super) async fn hide_seat(conn: &mut PgConnection, stream_id: i64, account_id: i64) -> Result<bool, Error> {
    let done = sqlx::query!(
        "update seat set held = true, left_here = true
         where stream_id = $1 and account_id = $2 and until_seq is null and not held",
        stream_id,
        account_id
    )
    .execute(&mut *conn)
    .await?;
    // Invalidates cached rights.
    sqlx::query!("update stream set rules = rules + 1 where id = $1", stream_id).execute(conn).await?;
    Ok(done.rows_affected() > 0)
}

/// Ends delivered invitations to the stream that this server has not followed yet.
pub(super) async fn pass_invitations(conn: &mut PgConnection, account_id: i64, stream: &str) -> Result<(), Error> {
    sqlx::query!(
        "update invitation set state = 4, offer = null where account_id = $1 and stream = $2 and state in (1, 2)",
        account_id,
        stream
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn hold_welcomes(conn: &mut PgConnection, account_id: i64, stream_id: i64) -> Result<(), Error> {
    sqlx::query!(
        "update welcome_pointer p set state = 'held' from device d, welcome w
         where p.device_id = d.id and d.account_id = $1 and p.welcome_id = w.id and w.stream_id = $2
           and p.state = 'waiting'",
        account_id,
        stream_id
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Stops following the stream if every account of this server with an open seat has left, too.
pub(super) async fn end_if_last(conn: &mut PgConnection, stream_id: i64, now: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "update replica set ended_at = coalesce(ended_at, $2), follow_due_at = null
         where stream_id = $1 and not exists (
             select 1 from seat s join account a on a.id = s.account_id and a.stream_id is not null
             where s.stream_id = $1 and s.until_seq is null and not s.left_here
         )",
        stream_id,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}

pub(super) async fn is_followed(pool: &PgPool, stream: &str) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"select exists (
               select 1 from replica r join stream s on s.id = r.stream_id
               where s.public_id = $1 and r.ended_at is null
           ) as "followed!""#,
        stream
    )
    .fetch_one(pool)
    .await?)
}
