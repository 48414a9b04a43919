//! SQL on what the migration of `next-version` added. Not checked by the compiler, which knows the schema of this version.

use sqlx::query;

use crate::storage::{Error, PgConnection};
use crate::types::{Did, Seq};

pub(super) async fn insert_note(conn: &mut PgConnection, stream_id: i64, seq: Seq, text: &str) -> Result<(), Error> {
    query("insert into next_note (stream_id, seq, text) values ($1, $2, $3)")
        .bind(stream_id)
        .bind(seq.to_db())
        .bind(text)
        .execute(&mut *conn)
        .await?;
    query("update stream set next_notes = next_notes + 1 where id = $1").bind(stream_id).execute(conn).await?;
    Ok(())
}

/// Queues a delivery of a kind that this version does not know; nothing if one of that id was queued before.
pub(super) async fn insert_delivery(
    conn: &mut PgConnection,
    id: &str,
    server: &Did,
    to: &Did,
    body: &serde_json::Value,
) -> Result<(), Error> {
    query(
        "insert into delivery (public_id, peer, account, kind, body, refs, created_at, due_at)
         values ($1, $2, $3, 'note', $4, '{}', now(), now()) on conflict (public_id) do nothing",
    )
    .bind(id)
    .bind(server.as_str())
    .bind(to.as_str())
    .bind(body)
    .execute(conn)
    .await?;
    Ok(())
}
