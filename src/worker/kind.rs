//! The table of all workers.
//!
//! Invariant: a worker runs on the instances that this table names, and on no others: [`Workers`](super::Workers) starts
//! no worker without a row here.

use crate::config::Role;
use crate::storage::Class;

/// The instances that run a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// Every instance needs its own.
    Every,
    /// Every instance that answers calls needs its own.
    Serving,
    /// One instance does the work for all; several divide the work by leases and locks.
    Background,
}

impl RunsOn {
    pub const fn includes(self, role: Role) -> bool {
        match self {
            Self::Every => true,
            Self::Serving => role.serves_calls(),
            Self::Background => role.does_background_work(),
        }
    }
}

/// Every worker of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerKind {
    /// Appends entries in batches.
    LogWriter,
    /// Reads new entries once for all subscriptions of the instance.
    Tailer,
    /// Compares the clock with the clock of Postgres.
    ClockCheck,
    /// Appends the effects of transactions on account streams.
    Outbox,
    /// Erases the messages of accounts that left.
    Erasure,
    /// Deletes and erases what aged out.
    Retention,
    /// Measures the progress of the instance's log, for readiness.
    FlowMonitor,
    SignalsOut,
    SignalsIn,
    SignalsByRedis,
    /// Wakes the background workers of other instances.
    WorkSignals,
    /// Compares the log with the file of `ROLLBACK_GUARD`.
    RollbackGuard,
    /// Measures the disk of Postgres, and closes idle connections.
    DiskWatch,
    /// Announces the instance, and counts the others.
    InstanceRegister,
    /// Authorizes open subscriptions again.
    ListenerWatch,
    /// Remembers used tokens, and renews the partitions of that memory.
    ReplayMemory,
    /// Sums what the callers of the instance use.
    CallerQuotas,
    /// Sums what accounts use whose totals are old.
    StaleQuotas,
    /// Sends entries to followers.
    ReplicationScheduler,
    /// Checks silent homes, recoveries, receipts and evidence.
    PeerMonitor,
    /// Shows a restored home its own signatures. The instance that noticed the restore does so.
    RestoresOfPeers,
    /// Knows which followers are away, so that their next sign of life ends the pause.
    AbsentFollowers,
    /// Sends notices to other servers.
    Delivery,
    /// Repeats the deliveries to a restored peer. The instance that noticed the restore does so.
    RepeatedDelivery,
    /// Deletes old deliveries and invitations.
    DeliverySweep,
    /// Follows the streams that accounts joined.
    Joining,
}

impl WorkerKind {
    /// The worker's name in logs, the class of its connections, and the instances that run it.
    const fn row(self) -> (&'static str, Class, RunsOn) {
        use RunsOn::{Background, Every, Serving};
        match self {
            Self::LogWriter => ("log writer", Class::Writes, Every),
            Self::Tailer => ("tailer", Class::Tailer, Every),
            Self::ClockCheck => ("clock", Class::Workers, Every),
            Self::Outbox => ("outbox", Class::Workers, Background),
            Self::Erasure => ("erasure", Class::Workers, Background),
            Self::Retention => ("retention", Class::Workers, Background),
            Self::FlowMonitor => ("flow monitor", Class::Workers, Every),
            Self::SignalsOut => ("signals out", Class::Workers, Every),
            Self::SignalsIn => ("signals in", Class::Workers, Every),
            Self::SignalsByRedis => ("signals by Redis", Class::Workers, Every),
            Self::WorkSignals => ("work signals", Class::Workers, Serving),
            Self::RollbackGuard => ("rollback guard", Class::Workers, Every),
            Self::DiskWatch => ("disk watch", Class::Workers, Every),
            Self::InstanceRegister => ("instance register", Class::Workers, Every),
            Self::ListenerWatch => ("listener watch", Class::Workers, Serving),
            Self::ReplayMemory => ("replay memory", Class::Authentication, Serving),
            Self::CallerQuotas => ("caller quotas", Class::Workers, Serving),
            Self::StaleQuotas => ("stale quotas", Class::Workers, Background),
            Self::ReplicationScheduler => ("replication scheduler", Class::Workers, Background),
            Self::PeerMonitor => ("peer monitor", Class::Workers, Background),
            Self::RestoresOfPeers => ("restores of peers", Class::Workers, Every),
            Self::AbsentFollowers => ("absent followers", Class::Workers, Serving),
            Self::Delivery => ("delivery", Class::Workers, Background),
            Self::RepeatedDelivery => ("repeated delivery", Class::Workers, Every),
            Self::DeliverySweep => ("delivery sweep", Class::Workers, Background),
            Self::Joining => ("joining", Class::Workers, Background),
        }
    }

    pub const fn name(self) -> &'static str {
        self.row().0
    }

    pub(super) const fn class(self) -> Class {
        self.row().1
    }

    pub const fn runs_on(self) -> RunsOn {
        self.row().2
    }
}
