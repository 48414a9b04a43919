//! The jobs of retention.

use super::{IDENTITY_DAYS, Keep, ago};
use crate::config::Retention;
use crate::log::body::{Body, KeyPackagesLowBody};
use crate::log::partitions::{is_over, is_period_over};
use crate::log::{EntryKind, Error, store};
use crate::storage::PgConnection;
use crate::types::UnixMillis;

/// An expired key package may still be in a Welcome that is on its way: a claim is good for a day.
const EXPIRED_DAYS: i64 = 1;

/// Entries dated up to this far ahead may be correct: another instance's clock may differ from ours.
const CLOCK_MS: i64 = 2 * 60 * 1000;
/// Pages that a longer page spans: one transaction changes all its rows.
const LONGER: i64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// One-time key packages from before a restore.
    DoubtfulKeyPackages,
    /// Followers that may hold entries that a restore lost.
    AskedFollowers,
    /// Homes to continue from this server's heads after a restore.
    AskedHomes,
    /// Partitions of identities of calls.
    Identities,
    /// Contents of messages, hidden from readers.
    Messages,
    /// Partitions of hidden contents.
    ContentWeeks,
    Notices,
    Handshakes,
    /// First answers that no entry can rebuild.
    Answers,
    KeyPackages,
    Welcomes,
}

/// The result of one transaction.
pub(super) struct Step {
    pub rows: u64,
    pub more: bool,
}

impl Step {
    fn of(rows: u64, batch: i64) -> Self {
        Self { rows, more: i64::try_from(rows).is_ok_and(|rows| rows >= batch) }
    }
}

impl Job {
    /// The jobs that run soon after a restore.
    pub(super) const AFTER_RESTORE: &'static [Self] =
        &[Self::AskedFollowers, Self::AskedHomes, Self::DoubtfulKeyPackages];

    pub const ALL: &'static [Self] = &[
        Self::DoubtfulKeyPackages,
        Self::AskedFollowers,
        Self::AskedHomes,
        Self::Messages,
        Self::Notices,
        Self::Handshakes,
        Self::Answers,
        Self::KeyPackages,
        Self::Welcomes,
        // Last: a partition that is in use fails the step, and with it the sweep.
        Self::ContentWeeks,
        Self::Identities,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::DoubtfulKeyPackages => "doubtful_key_packages",
            Self::AskedFollowers => "asked_followers",
            Self::AskedHomes => "asked_homes",
            Self::Identities => "identities",
            Self::Messages => "messages",
            Self::ContentWeeks => "content_weeks",
            Self::Notices => "notices",
            Self::Handshakes => "handshakes",
            Self::Answers => "answers",
            Self::KeyPackages => "key_packages",
            Self::Welcomes => "welcomes",
        }
    }

    /// Its row in `log_sweep`, for jobs that pass over entries.
    const fn mark(self) -> i16 {
        match self {
            Self::Messages => 2,
            Self::Notices => 3,
            Self::Handshakes => 4,
            Self::DoubtfulKeyPackages
            | Self::AskedFollowers
            | Self::AskedHomes
            | Self::Identities
            | Self::ContentWeeks
            | Self::Answers
            | Self::KeyPackages
            | Self::Welcomes => 0,
        }
    }

    pub(super) async fn step(
        self,
        conn: &mut PgConnection,
        terms: &Retention,
        now: UnixMillis,
        batch: i64,
    ) -> Result<Step, Error> {
        let before = |days| ago(now, days).to_datetime();
        match self {
            Self::DoubtfulKeyPackages => {
                let notice = KeyPackagesLowBody { reason: "restored".to_owned() }.encode()?;
                Ok(Step::of(store::delete_doubtful_key_packages(conn, &notice, batch, now.to_datetime()).await?, batch))
            }
            Self::AskedFollowers => Ok(Step::of(store::ask_followers(conn, batch, now.to_datetime()).await?, batch)),
            Self::AskedHomes => Ok(Step::of(store::ask_homes(conn, batch, now.to_datetime()).await?, batch)),
            Self::Identities => forget_identities(conn, ago(now, IDENTITY_DAYS)).await,
            Self::Messages => {
                // Erasures read the mark under a lock, too: one message is freed once.
                store::lock_mark(conn, self.mark()).await?;
                self.age_out(conn, before(terms.messages_days), Keep::Messages, now, batch).await
            }
            Self::ContentWeeks => drop_week(conn, ago(now, terms.messages_days), batch).await,
            Self::Notices => self.age_out(conn, before(terms.notices_days), Keep::Notices, now, batch).await,
            Self::Handshakes => {
                let lapsed = before(terms.lapse_days);
                let aged = store::age_out_handshakes(conn, before(terms.commits_days), lapsed, batch).await?;
                if let Some(pos) = aged.greatest {
                    store::advance(conn, self.mark(), 0, Some(pos)).await?;
                }
                Ok(Step::of(aged.rows, batch))
            }
            Self::Answers => Ok(Step::of(store::delete_answers(conn, before(IDENTITY_DAYS), batch).await?, batch)),
            Self::KeyPackages => {
                let (expired, made) = (before(EXPIRED_DAYS), before(terms.welcomes_days));
                Ok(Step::of(store::delete_key_packages(conn, expired, made, batch).await?, batch))
            }
            Self::Welcomes => {
                Ok(Step::of(store::delete_welcomes(conn, before(terms.welcomes_days), batch).await?, batch))
            }
        }
    }

    /// The next old entries. If a whole page of them has wrong times, reads a longer page.
    async fn next_page(
        self,
        conn: &mut PgConnection,
        before: chrono::DateTime<chrono::Utc>,
        now: UnixMillis,
        batch: i64,
    ) -> Result<Option<store::OldPage>, Error> {
        let latest = UnixMillis(now.0.saturating_add(CLOCK_MS)).to_datetime();
        match store::old_page(conn, self.mark(), before, latest, batch).await? {
            None => store::old_page(conn, self.mark(), before, latest, batch * LONGER).await,
            page => Ok(page),
        }
    }

    /// Takes the contents of kinds that are kept so out of the next old entries.
    async fn age_out(
        self,
        conn: &mut PgConnection,
        before: chrono::DateTime<chrono::Utc>,
        keep: Keep,
        now: UnixMillis,
        batch: i64,
    ) -> Result<Step, Error> {
        let kinds: Vec<i16> =
            EntryKind::ALL.iter().filter(|&&kind| Keep::of(kind) == keep).map(|kind| kind.to_db()).collect();
        let Some(page) = self.next_page(conn, before, now, batch).await? else {
            return Ok(Step { rows: 0, more: false });
        };
        let aged = match keep {
            Keep::Messages => store::age_out_messages(conn, page.after, page.through, &kinds).await?,
            _ => store::age_out_notices(conn, page.after, page.through, &kinds).await?,
        };
        store::advance(conn, self.mark(), page.through, aged.greatest).await?;
        Ok(Step { rows: aged.rows, more: page.full })
    }
}

/// Drops the oldest partition of contents, once the sweep has hidden all its messages. Contents of backfilled entries,
/// which that sweep does not pass, are deleted before.
async fn drop_week(conn: &mut PgConnection, before: UnixMillis, batch: i64) -> Result<Step, Error> {
    for week in store::content_weeks(conn).await? {
        if !is_over(week, before) || store::holds_unswept(conn, week).await? {
            continue;
        }
        let rows = store::delete_backfilled(conn, week, batch).await?;
        if rows == 0 {
            store::drop_week(conn, week).await?;
            return Ok(Step { rows: 1, more: true });
        }
        return Ok(Step { rows, more: true });
    }
    Ok(Step { rows: 0, more: false })
}

/// Drops a partition of identities that are all forgotten.
async fn forget_identities(conn: &mut PgConnection, before: UnixMillis) -> Result<Step, Error> {
    let periods = store::identity_periods(conn).await?;
    let Some(&over) = periods.iter().find(|&&period| is_period_over(period, before)) else {
        return Ok(Step { rows: 0, more: false });
    };
    store::drop_period(conn, over).await?;
    Ok(Step { rows: 1, more: true })
}
