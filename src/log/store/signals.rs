//! SQL of the relay.

use crate::log::Error;
use crate::storage::{PgConnection, PgPool};

/// Sends one signal to all listeners, in a transaction of its own.
pub(in crate::log) async fn notify(conn: &mut PgConnection, channel: &str, payload: &str) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, $2)", channel, payload).execute(conn).await?;
    Ok(())
}

/// Sends signals to all listeners, in one transaction of their own.
pub(in crate::log) async fn notify_all(
    conn: &mut PgConnection,
    channel: &str,
    payloads: &[String],
) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, payload) from unnest($2::text[]) payload", channel, payloads)
        .execute(conn)
        .await?;
    Ok(())
}

/// The identity of a database, which exactly its instances share: its cluster and its name.
pub(in crate::log) async fn database(pool: &PgPool) -> Result<(i64, String), Error> {
    let row = sqlx::query!(r#"select system_id, current_database()::text as "name!" from log_origin"#)
        .fetch_one(pool)
        .await?;
    Ok((row.system_id, row.name))
}
