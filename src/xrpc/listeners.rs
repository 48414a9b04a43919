//! Repeated authorization of open subscriptions: the server authorizes a call once, and a socket lives for hours.
//!
//! Invariant: within [`JUDGED_EVERY`] the server ends a listener whose device, account or proof lost its standing, also
//! without an entry or a signal about it: the account's DID moved away, its proof expired, the device lapsed.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::caller::standing;
use super::{Fault, Services, store};

/// Interval at which this instance authorizes its listeners again.
const JUDGED_EVERY: Duration = Duration::from_mins(10);
/// Devices that one query loads.
const AT_ONCE: usize = 500;

/// Authorizes the listeners of this instance at intervals, until `end`.
pub async fn watch_listeners(cx: Services, end: CancellationToken) {
    let mut rounds = interval(JUDGED_EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate.
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

/// Authorizes every listener of this instance, and ends those that may no longer listen.
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
