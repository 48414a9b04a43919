//! Whether those who listen still may: a call is judged once, and a socket lives for hours.
//!
//! Invariant: a listener whose device, account or proof lost its standing is ended within [`JUDGED_EVERY`], also where no
//! entry and no word of another instance says so: the account's DID moved away, its proof ran out, the device lapsed.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::caller::standing;
use super::{Fault, Services, store};

/// How often the listeners of this instance are judged again.
const JUDGED_EVERY: Duration = Duration::from_mins(10);
/// Devices that are judged by one query.
const AT_ONCE: usize = 500;

/// Judges the listeners of this instance again and again, until `end`.
pub async fn watch_listeners(cx: Services, end: CancellationToken) {
    let mut rounds = interval(JUDGED_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    rounds.tick().await;
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = rounds.tick() => if let Err(fault) = judge_listeners(&cx).await {
                tracing::warn!(error = fault.name(), "failed to judge listeners again");
            },
        }
    }
}

/// Judges every listener of this instance, and ends those that may not listen any more.
pub async fn judge_listeners(cx: &Services) -> Result<(), Fault> {
    let devices = cx.log.hub().devices();
    for some in devices.chunks(AT_ONCE) {
        for row in store::devices(cx.storage.pool(), some).await? {
            if !standing::may_listen(cx, &row).await {
                tracing::info!("closing the sockets of a device that may not listen any more");
                cx.log.hub().close_device(row.id);
            }
        }
    }
    Ok(())
}
