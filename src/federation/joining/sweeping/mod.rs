//! Deletes old deliveries and invitations.
//!
//! Invariants: sweeping also runs where federation is off; one batch is one short statement, and a backlog ends batch
//! by batch.

mod store;

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{Joining, delivery};
use crate::storage::Error;

const EVERY: Duration = Duration::from_mins(10);
/// Rows that one statement deletes.
const BATCH: i64 = 1_000;
/// Age at which deliveries are deleted. An unaccepted delivery expires then; until then the server repeats an accepted
/// one to a receiver that was restored.
const DELIVERIES_KEPT: TimeDelta = TimeDelta::days(30);
/// Time after which the server gives up on an invitation whose stream it cannot follow.
const JOINING_FOR: TimeDelta = TimeDelta::days(30);
/// Time that the outcome of an invitation is kept.
const INVITATIONS_KEPT: TimeDelta = TimeDelta::days(60);

pub(super) async fn run(joining: Joining, stop: CancellationToken) {
    loop {
        if let Err(error) = joining.sweep().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to sweep deliveries and invitations");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

impl Joining {
    /// Runs one pass over all that is old enough.
    pub async fn sweep(&self) -> Result<(), Error> {
        let (pool, now) = (self.log().storage().pool(), self.log().clock().now().to_datetime());
        while delivery::forget(pool, now - DELIVERIES_KEPT, BATCH).await? > 0 {}
        store::give_up_joining(pool, now - JOINING_FOR).await?;
        while store::forget_invitations(pool, now - INVITATIONS_KEPT, BATCH).await? > 0 {}
        Ok(())
    }
}
