//! Retention: the ageing of the log.
//!
//! Invariants: headers stay as long as their stream, so the chain can always be checked; contents from which seats,
//! roles and devices follow stay, too, so they can always be replayed; a device that is not lapsed finds every
//! handshake since it was last seen. What goes is gone in short transactions of bounded size: an open writer holds back
//! all readers.

mod jobs;

use std::time::Duration;

use rand::RngExt;
use tokio_util::sync::CancellationToken;

use super::{EntryKind, Error, Log, NamedKind, store};
use crate::telemetry::metric_name;
use crate::types::UnixMillis;
use crate::worker::Beat;

pub use jobs::Job;

/// Days after which a call's identity and its first answer are forgotten: the same call is then a new one.
pub(super) const IDENTITY_DAYS: i64 = 35;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How often an instance looks for what is due, give or take a tenth, so that instances drift apart.
const EVERY: Duration = Duration::from_mins(10);
/// Rows of one transaction.
const BATCH: i64 = 500;
/// Pause between two transactions, so that others come first.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause between two attempts to complete the jobs after a restore.
const AFTER_RESTORE: Duration = Duration::from_secs(5);

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
}

impl Keep {
    /// Keeps the contents of kinds that this version does not know: a later version may need them.
    pub fn of_named(kind: &NamedKind) -> Self {
        kind.known().map_or(Self::Always, Self::of)
    }

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
            #[cfg(feature = "next-version")]
            EntryKind::Note => Self::Always,
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
        }
    }
}

/// The result of one sweep: rows, by job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept(Vec<(Job, u64)>);

impl Swept {
    pub fn rows(&self, job: Job) -> u64 {
        self.0.iter().filter(|(of, _)| *of == job).map(|(_, rows)| rows).sum()
    }
}

pub(super) async fn run(log: Log, stop: CancellationToken, beat: Beat) {
    tokio::select! {
        () = stop.cancelled() => return,
        () = follow_restore(&log, &beat) => {}
    }
    loop {
        beat.rest();
        let every = EVERY.mul_f64(rand::rng().random_range(0.9..1.1));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = log.sweep_beating(&beat) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "what is due could not be swept");
            }
        }
    }
}

/// Runs the first step of the jobs after a restore, before the server answers requests; on a server of ordinary size it
/// completes them. The start goes on after a failure: the worker tries again.
pub(super) async fn begin_after_restore(log: &Log) {
    for &job in Job::AFTER_RESTORE {
        if let Err(error) = log.sweep_step(job, log.clock().now()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "failed to deal with what a restore left");
        }
    }
}

/// Completes the jobs after a restore as soon as a server starts, on whichever instance comes first.
async fn follow_restore(log: &Log, beat: &Beat) {
    loop {
        match log.sweep_jobs(Job::AFTER_RESTORE, beat).await {
            Ok(Some(_)) => return,
            // Another instance is sweeping, and may have begun before the restore.
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to deal with what a restore left");
            }
        }
        beat.rest();
        tokio::time::sleep(AFTER_RESTORE).await;
    }
}

impl Log {
    /// Does everything that is due now. One instance at a time: what another is at is left to it.
    pub async fn sweep(&self) -> Result<Swept, Error> {
        self.sweep_beating(&Beat::new()).await
    }

    async fn sweep_beating(&self, beat: &Beat) -> Result<Swept, Error> {
        self.note_age().await?;
        Ok(self.sweep_jobs(Job::ALL, beat).await?.unwrap_or_default())
    }

    /// Notes how far the log reaches today, so that a date that another home put ahead delays no job by more than a day.
    async fn note_age(&self) -> Result<(), Error> {
        let now = self.clock().now();
        let terms = &self.inner.retention;
        let longest = terms.messages_days.max(terms.notices_days).max(IDENTITY_DAYS);
        let mut tx = self.inner.storage.begin().await?;
        if store::try_lock_sweeper(tx.conn()).await? {
            store::note_age(tx.conn(), now.to_datetime(), ago(now, longest).to_datetime()).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Runs the due jobs; `None` if another instance is sweeping.
    async fn sweep_jobs(&self, jobs: &[Job], beat: &Beat) -> Result<Option<Swept>, Error> {
        let now = self.clock().now();
        let mut swept = Swept::default();
        for &job in jobs {
            loop {
                beat.beat();
                let Some(step) = self.sweep_step(job, now).await? else { return Ok(None) };
                metrics::counter!(metric_name::RETENTION_ROWS, "job" => job.name()).increment(step.rows);
                swept.0.push((job, step.rows));
                if !step.more {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(Some(swept))
    }

    /// One transaction of a job; nothing if another instance is sweeping.
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
