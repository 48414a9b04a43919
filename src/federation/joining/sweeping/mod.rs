//! Deletes what deliveries and invitations leave behind.
//!
//! Invariants: it runs where federation is off, too; one batch is one short statement, and a backlog is worked off batch
//! by batch.

mod store;

use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{Joining, delivery};
use crate::storage::Error;

const EVERY: Duration = Duration::from_mins(10);
/// Rows of one statement.
const BATCH: i64 = 1_000;
/// A delivery that was not taken by then never will be; one that was is told again after a restore until then.
const DELIVERIES_KEPT: TimeDelta = TimeDelta::days(30);
/// A home that could not be followed for so long has no use for the invitation.
const JOINING_FOR: TimeDelta = TimeDelta::days(30);
/// How long what became of an invitation is kept.
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
    /// One pass over everything that is old enough.
    pub async fn sweep(&self) -> Result<(), Error> {
        let (pool, now) = (self.log().storage().pool(), self.log().clock().now().to_datetime());
        while delivery::forget(pool, now - DELIVERIES_KEPT, BATCH).await? > 0 {}
        store::give_up_joining(pool, now - JOINING_FOR).await?;
        while store::forget_invitations(pool, now - INVITATIONS_KEPT, BATCH).await? > 0 {}
        Ok(())
    }
}
