//! Partitions by time: where the content of a message and the identity of a call are stored, so that both leave with their
//! partition.
//!
//! Invariant: the partitions of this moment and of the next week and period exist before an entry is written, so that no
//! transaction meets a missing partition when a week begins.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::retention::{IDENTITY_DAYS, Keep};
use super::{Error, Log, store};
use crate::storage::PgConnection;
use crate::types::UnixMillis;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const WEEK_MS: i64 = 7 * DAY_MS;
const PERIOD_MS: i64 = IDENTITY_DAYS * DAY_MS;

/// The partition of contents that stay, or leave one by one.
const KEPT: i16 = 0;

/// The partitions of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimePartitions {
    /// The week since 1970: of contents of messages.
    week: i16,
    /// The period of 35 days since 1970: of identities of calls.
    pub period: i16,
}

impl TimePartitions {
    pub(super) fn at(now: UnixMillis) -> Self {
        let number = |width| i16::try_from(now.0.div_euclid(width)).unwrap_or(i16::MAX).max(1);
        Self { week: number(WEEK_MS), period: number(PERIOD_MS) }
    }

    /// The partition of a content that is stored now.
    pub(super) fn week_of(self, keep: Keep) -> i16 {
        match keep {
            Keep::Messages => self.week,
            Keep::Always | Keep::Handshakes | Keep::Notices => KEPT,
        }
    }

    /// The partition of the content of a backfilled entry made at this moment. The order of positions does not pass over
    /// backfilled entries, so their notices leave with their week, too.
    pub(super) fn week_of_backfilled(self, keep: Keep) -> i16 {
        match keep {
            Keep::Messages | Keep::Notices => self.week,
            Keep::Always | Keep::Handshakes => KEPT,
        }
    }

    /// This week and the next; this period, its neighbours.
    fn needed(self) -> (Vec<i16>, Vec<i16>) {
        let (week, period) = (self.week, self.period);
        (vec![week, week.saturating_add(1)], vec![period - 1, period, period.saturating_add(1)])
    }
}

/// Whether a week is over since `before`, so that every message in its partition is older.
pub(super) fn is_over(week: i16, before: UnixMillis) -> bool {
    (i64::from(week) + 1).saturating_mul(WEEK_MS) <= before.0
}

/// Whether every call in a period's partition was stored before `before`.
pub(super) fn is_period_over(period: i16, before: UnixMillis) -> bool {
    (i64::from(period) + 1).saturating_mul(PERIOD_MS) <= before.0
}

/// The partitions that this process knows to exist.
#[derive(Default)]
pub(super) struct KnownPartitions(Mutex<Option<TimePartitions>>);

impl KnownPartitions {
    fn has(&self, at: TimePartitions) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == Some(at)
    }

    fn set(&self, at: TimePartitions) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }
}

impl Log {
    pub(super) fn partitions_now(&self) -> TimePartitions {
        TimePartitions::at(self.inner.clock.now())
    }

    /// The partition of identities of calls that are stored now.
    pub fn identity_period(&self) -> i16 {
        self.partitions_now().period
    }

    /// Makes the partitions of this moment, where this process does not know that they exist. Holds no connection
    /// afterwards.
    pub(super) async fn ensure_partitions(&self) -> Result<(), Error> {
        if self.inner.partitions.has(self.partitions_now()) {
            return Ok(());
        }
        let mut connection = self.inner.storage.pool().acquire().await?;
        self.ensure_partitions_on(&mut connection).await
    }

    /// Makes the partitions of this moment on a connection without a transaction, where this process does not know that
    /// they exist.
    pub(super) async fn ensure_partitions_on(&self, connection: &mut PgConnection) -> Result<(), Error> {
        let at = self.partitions_now();
        if !self.inner.partitions.has(at) {
            let (weeks, periods) = at.needed();
            store::add_partitions(connection, &weeks, &periods).await?;
            self.inner.partitions.set(at);
        }
        Ok(())
    }

    /// Makes the partitions in a transaction that has begun, which the caller may still roll back.
    pub(super) async fn ensure_partitions_in(&self, transaction: &mut PgConnection) -> Result<(), Error> {
        let at = self.partitions_now();
        if !self.inner.partitions.has(at) {
            let (weeks, periods) = at.needed();
            store::add_partitions(transaction, &weeks, &periods).await?;
        }
        Ok(())
    }

    /// Makes the partitions of backfilled contents.
    pub(super) async fn ensure_weeks(&self, weeks: &[Option<i16>]) -> Result<(), Error> {
        let weeks: BTreeSet<i16> = weeks.iter().copied().flatten().filter(|&week| week != KEPT).collect();
        if weeks.is_empty() {
            return Ok(());
        }
        let mut connection = self.inner.storage.pool().acquire().await?;
        store::add_partitions(&mut connection, &Vec::from_iter(weeks), &[]).await
    }

    /// The partition of a backfilled entry's content; `None` where the content has aged out.
    pub(super) fn week_of_backfilled(&self, keep: Keep, made: UnixMillis) -> Option<i16> {
        let now = self.inner.clock.now();
        let week = TimePartitions::at(made.min(now)).week_of_backfilled(keep);
        let aged = week != KEPT && is_over(week, super::retention::messages_aged_before(self));
        (!aged).then_some(week)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_over_when_its_last_message_is_old() {
        let first = UnixMillis(2_969 * WEEK_MS);
        let last = UnixMillis(2_970 * WEEK_MS - 1);
        assert_eq!(TimePartitions::at(first).week, 2_969);
        assert_eq!(TimePartitions::at(last).week, 2_969);
        assert!(!is_over(2_969, last));
        assert!(is_over(2_969, UnixMillis(2_970 * WEEK_MS)));
    }

    #[test]
    fn only_messages_leave_with_their_week() {
        let at = TimePartitions::at(UnixMillis(2_969 * WEEK_MS));
        assert_eq!(at.week_of(Keep::Messages), 2_969);
        for keep in [Keep::Always, Keep::Handshakes, Keep::Notices] {
            assert_eq!(at.week_of(keep), KEPT);
        }
        assert_eq!(at.week_of_backfilled(Keep::Notices), 2_969);
        assert_eq!(at.week_of_backfilled(Keep::Always), KEPT);
    }
}
