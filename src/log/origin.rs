//! What turns transaction ids into positions, and whether this is still the cluster that they came from.

use super::{Error, store};
use crate::storage::Storage;
use crate::types::Clock;

/// How far positions jump when the cluster is another one: beyond anything the old one can have handed out.
const BASE_STEP: i64 = 1 << 40;

/// Writes the origin on first start. On another cluster or timeline (a restore, a failover, a dump loaded elsewhere)
/// transaction ids went back or mean nothing, so positions and the incarnation are raised before anything is written.
pub(super) async fn establish(storage: &Storage, clock: &Clock) -> Result<(), Error> {
    let mut tx = storage.begin().await?;
    store::lock_origin(tx.conn()).await?;
    let (system_id, timeline) = store::cluster_identity(tx.conn()).await?;
    match store::find_origin(tx.conn()).await? {
        None => store::insert_origin(tx.conn(), system_id, timeline, clock.now_seconds()).await?,
        Some(origin) if origin.system_id == system_id && origin.timeline == timeline => {}
        Some(origin) => {
            let incarnation = clock.now_seconds().max(origin.incarnation + 1);
            store::raise_origin(tx.conn(), BASE_STEP, system_id, timeline, incarnation).await?;
            tracing::warn!(
                incarnation,
                "the database is on another cluster or timeline: positions and incarnation were raised"
            );
        }
    }
    tx.commit().await?;
    Ok(())
}
