//! The running instances of this server, which share its limits.
//!
//! Invariant: an instance that renewed its row within [`LIVE_FOR`] counts, on every instance, at the latest
//! [`EVERY`] after its start. While Postgres does not answer, an instance keeps the last count.

mod store;

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Role;
use crate::limit::InstanceCount;
use crate::storage::{Error, Storage};
use crate::telemetry::metric_name;
use crate::worker::Beat;

/// Interval between two renewals of the own row.
const EVERY: Duration = Duration::from_secs(5);
/// Age of a row whose instance counts as ended: two renewals failed.
const LIVE_FOR: Duration = Duration::from_secs(15);
/// Age at which any instance deletes a row.
const KEPT_FOR: Duration = Duration::from_hours(1);
/// Time without background work, or without an instance that serves calls, after which the log names the lack; and the
/// interval between two such lines.
const LACKING: Duration = Duration::from_mins(1);
const SAY_EVERY: Duration = Duration::from_mins(10);
/// Time in which an ending instance deletes its row.
const LEAVE: Duration = Duration::from_secs(1);

/// The number of running instances of each role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Roll {
    all: i64,
    api: i64,
    worker: i64,
}

impl Roll {
    const fn of(self, role: Role) -> i64 {
        match role {
            Role::All => self.all,
            Role::Api => self.api,
            Role::Worker => self.worker,
        }
    }

    fn with(mut self, role: Role) -> Self {
        match role {
            Role::All => self.all += 1,
            Role::Api => self.api += 1,
            Role::Worker => self.worker += 1,
        }
        self
    }

    fn serving(self) -> u32 {
        u32::try_from(self.all + self.api).unwrap_or(u32::MAX)
    }

    /// The work that no instance does, if there is such work.
    fn lacks(self) -> Option<&'static str> {
        match (self.all, self.api, self.worker) {
            (0, _, 0) => Some(
                "no instance does background work: nothing ages out, no account is told of invitations, and no other \
                 server gets entries. Fix: start an instance with SERVER_ROLE=worker or all",
            ),
            (0, 0, _) => Some("no instance answers calls. Fix: start an instance with SERVER_ROLE=api or all"),
            _ => None,
        }
    }
}

/// This instance's row, and the count of all.
#[derive(Clone)]
pub(super) struct InstanceRegister {
    id: String,
    role: Role,
    storage: Storage,
    count: InstanceCount,
}

impl InstanceRegister {
    /// Registers this instance before it answers the first call.
    pub(super) async fn enter(storage: Storage, role: Role) -> Result<Self, Error> {
        let id = hex::encode(rand::random::<[u8; 8]>());
        let register = Self { id, role, storage, count: InstanceCount::alone() };
        register.renew().await?;
        Ok(register)
    }

    /// The number of instances that answer calls, as this instance knows it.
    pub(super) fn count(&self) -> &InstanceCount {
        &self.count
    }

    async fn renew(&self) -> Result<Roll, Error> {
        let roll = store::renew(self.storage.pool(), &self.id, self.role, LIVE_FOR).await?;
        self.count.set(roll.serving());
        for role in [Role::All, Role::Api, Role::Worker] {
            let number = u32::try_from(roll.of(role)).unwrap_or(u32::MAX);
            metrics::gauge!(metric_name::INSTANCES, "role" => role.name()).set(number);
        }
        Ok(roll)
    }

    /// Renews the row until `stop`, and names what no instance does.
    pub(super) async fn run(self, stop: CancellationToken, beat: Beat) {
        let (mut lacking, mut said): (Option<Instant>, Option<Instant>) = (None, None);
        let mut forgot: Option<Instant> = None;
        loop {
            beat.beat();
            match self.renew().await.map(Roll::lacks) {
                Ok(None) => (lacking, said) = (None, None),
                Ok(Some(lack)) => {
                    let since = *lacking.get_or_insert_with(Instant::now);
                    if since.elapsed() >= LACKING && said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                        said = Some(Instant::now());
                        tracing::warn!("{lack}");
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "failed to renew this instance's row");
                }
            }
            if forgot.is_none_or(|at| at.elapsed() >= KEPT_FOR) {
                forgot = Some(Instant::now());
                if let Err(error) = store::forget(self.storage.pool(), KEPT_FOR).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "failed to delete rows of ended instances"
                    );
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Deletes the row: the other instances take over this instance's part of the limits.
    pub(super) async fn leave(&self) {
        // Without an answer of Postgres, the row counts for a few seconds more.
        let _late = tokio::time::timeout(LEAVE, store::delete(self.storage.pool(), &self.id)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_names_the_work_that_no_instance_does() {
        let roll = |all, api, worker| Roll { all, api, worker };
        for whole in [roll(1, 0, 0), roll(0, 3, 1), roll(2, 3, 1)] {
            assert_eq!(whole.lacks(), None, "{whole:?}");
        }
        assert!(roll(0, 3, 0).lacks().unwrap().contains("SERVER_ROLE=worker"));
        assert!(roll(0, 0, 2).lacks().unwrap().contains("SERVER_ROLE=api"));
        assert_eq!((roll(1, 2, 4).serving(), roll(0, 0, 1).with(Role::Api).serving()), (3, 1));
    }
}
