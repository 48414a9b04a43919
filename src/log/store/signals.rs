//! SQL of the relay.

use sqlx::PgConnection;

use crate::log::Error;

/// Sends one signal to whoever listens, in a transaction of its own.
pub(in crate::log) async fn notify(conn: &mut PgConnection, channel: &str, payload: &str) -> Result<(), Error> {
    sqlx::query!("select pg_notify($1, $2)", channel, payload).execute(conn).await?;
    Ok(())
}
