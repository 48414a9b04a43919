//! What time does to the log.
//!
//! Invariants: headers stay as long as their stream, so the chain can always be checked; contents from which seats,
//! roles and devices follow stay, too, so they can always be replayed; a device that is not lapsed finds every handshake
//! since it was last seen. What goes is gone in short transactions of bounded size: an open writer holds back all
//! readers.

mod jobs;

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::{EntryKind, Error, Log, store};
use crate::telemetry::metric_name;
use crate::types::UnixMillis;

pub(super) use jobs::CANARY_DAYS;
pub use jobs::Job;

/// Days after which a call's identity and its first answer are forgotten: the same call is then a new one.
pub(super) const IDENTITY_DAYS: i64 = 35;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How often a replica looks for what is due, give or take a tenth, so that replicas drift apart.
const EVERY: Duration = Duration::from_mins(10);
/// Rows of one transaction.
const BATCH: i64 = 500;
/// Between two transactions, so that others come first.
const PAUSE: Duration = Duration::from_millis(10);

/// When the contents of a kind age out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Seats, roles or devices follow from it, or a stream begins with it.
    Always,
    Messages,
    /// Unless it changes a seat, and not before every device that may need it was seen again or lapsed.
    Handshakes,
    /// Tells an account of what is also elsewhere.
    Notices,
    /// Goes with its whole stream.
    WithStream,
}

impl Keep {
    pub const fn of(kind: EntryKind) -> Self {
        match kind {
            EntryKind::Opened
            | EntryKind::Convo
            | EntryKind::Membership
            | EntryKind::Device
            | EntryKind::DeviceChainReset
            | EntryKind::Erased
            | EntryKind::HomeChanged
            | EntryKind::HomeOpened
            | EntryKind::HomeRestored => Self::Always,
            EntryKind::Message => Self::Messages,
            EntryKind::Commit => Self::Handshakes,
            EntryKind::Welcome
            | EntryKind::KeyPackagesLow
            | EntryKind::Account
            | EntryKind::Relationship
            | EntryKind::Invitation
            | EntryKind::ForkDetected
            | EntryKind::HistoryRewound
            | EntryKind::ReceiptBroken
            | EntryKind::PeerKeyChanged => Self::Notices,
            EntryKind::Canary => Self::WithStream,
        }
    }
}

/// What one sweep did: rows, by job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept(Vec<(Job, u64)>);

impl Swept {
    pub fn rows(&self, job: Job) -> u64 {
        self.0.iter().filter(|(of, _)| *of == job).map(|(_, rows)| rows).sum()
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken) {
    loop {
        let every = EVERY.mul_f64(rand::rng().random_range(0.9..1.1));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = log.sweep() => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "what is due could not be swept");
            }
        }
    }
}

impl Log {
    /// Does everything that is due now. One replica at a time: what another is at is left to it.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        let now = self.clock().now();
        let mut swept = Swept::default();
        for &job in Job::ALL {
            loop {
                let Some(step) = self.sweep_step(job, now).await? else { return Ok(swept) };
                metrics::counter!(metric_name::RETENTION_ROWS, "job" => job.name()).increment(step.rows);
                swept.0.push((job, step.rows));
                if !step.more {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(swept)
    }

    /// One transaction of a job; nothing if another replica is sweeping.
    async fn sweep_step(&self, job: Job, now: UnixMillis) -> Result<Option<jobs::Step>, Error> {
        let mut tx = self.inner.storage.begin().await?;
        if !store::try_lock_sweeper(tx.conn()).await? {
            return Ok(None);
        }
        let step = job.step(tx.conn(), &self.inner.retention, now, BATCH).await?;
        tx.commit().await?;
        Ok(Some(step))
    }

    /// A device last seen before this is lapsed: it holds nothing back any more, and must register again.
    pub fn lapsed_before(&self) -> UnixMillis {
        ago(self.clock().now(), self.inner.retention.lapse_days)
    }
}

/// Contents of messages that were made before this are gone.
pub(super) fn messages_aged_before(log: &Log) -> UnixMillis {
    ago(log.clock().now(), log.inner.retention.messages_days)
}

fn ago(now: UnixMillis, days: i64) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(days.saturating_mul(DAY_MS)))
}

/// An identity of a call older than this counts as forgotten.
pub(super) fn identities_forgotten_before(now: UnixMillis) -> UnixMillis {
    ago(now, IDENTITY_DAYS)
}
