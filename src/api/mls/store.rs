//! SQL that several features of chat share.

use crate::storage::{Error, PgPool};

/// The keys that may sign for a device's leaves: its own, and the further ones that its certificate lists.
pub(super) async fn signature_keys(pool: &PgPool, device_row: i64) -> Result<Vec<Vec<u8>>, Error> {
    Ok(sqlx::query_scalar!("select public_key from device_key where device_id = $1", device_row)
        .fetch_all(pool)
        .await?)
}
