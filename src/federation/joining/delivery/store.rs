//! SQL on deliveries to other servers.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::Delivery;
use crate::storage::Error;

pub(super) async fn insert(
    conn: &mut PgConnection,
    id: &str,
    delivery: &Delivery<'_>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let references = delivery.welcome.as_ref().map_or(&[][..], |enclosed| &enclosed.references);
    sqlx::query!(
        "insert into delivery (public_id, peer, account, kind, body, stream_id, welcome_id, refs, created_at, due_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        id,
        delivery.server.as_str(),
        delivery.to.as_str(),
        delivery.kind,
        delivery.body,
        delivery.stream_id,
        delivery.welcome.as_ref().map(|enclosed| enclosed.welcome_id),
        references,
        now
    )
    .execute(conn)
    .await?;
    Ok(())
}
