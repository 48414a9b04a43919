//! The workers that sum what accounts and domains use.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::{Quotas, domain_of, store};
use crate::storage::Error;
use crate::types::{Clock, Did, UnixMillis};
use crate::worker::Beat;

/// How often the totals are summed.
const EVERY: Duration = Duration::from_secs(30);
/// Entries that one transaction counts.
const ENTRIES: i64 = 1_000;
/// Accounts that one transaction sums, and that are summed only because their totals are old.
const ACCOUNTS: usize = 100;
const STALE_ACCOUNTS: i64 = 500;
const STALE: TimeDelta = TimeDelta::hours(6);
/// Between two transactions, so that others come first.
const PAUSE: Duration = Duration::from_millis(10);

/// The accounts that a worker sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summed {
    /// Those whose calls this instance counted, and no worker has summed yet.
    Callers,
    /// Those whose totals are old.
    Stale,
}

/// Runs until `stop`.
pub async fn run(quotas: Quotas, summed: Summed, clock: Clock, stop: CancellationToken, beat: Beat) {
    loop {
        beat.rest();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        beat.beat();
        tokio::select! {
            () = stop.cancelled() => return,
            outcome = quotas.measure_some(summed, clock.now()) => if let Err(error) = outcome {
                tracing::warn!(error = &error as &dyn std::error::Error, "failed to sum what accounts use");
            }
        }
    }
}

impl Quotas {
    /// Sums every account that is due.
    pub async fn measure(&self, now: UnixMillis) -> Result<(), Error> {
        self.measure_some(Summed::Callers, now).await?;
        self.measure_some(Summed::Stale, now).await
    }

    /// Counts the entries that are new, then sums the accounts.
    async fn measure_some(&self, summed: Summed, now: UnixMillis) -> Result<(), Error> {
        while self.count_entries().await? {
            tokio::time::sleep(PAUSE).await;
        }
        let (pool, now) = (self.0.storage.pool(), now.to_datetime());
        let accounts = match summed {
            Summed::Callers => self.touched(),
            Summed::Stale => store::stale_accounts(pool, now - STALE, STALE_ACCOUNTS).await?,
        };
        for accounts in accounts.chunks(ACCOUNTS) {
            let named = store::dids(pool, accounts).await?;
            let (ids, domains): (Vec<i64>, Vec<Option<String>>) =
                named.into_iter().map(|(id, did)| (id, Did::parse(&did).ok().as_ref().and_then(domain_of))).unzip();
            let mut tx = self.0.storage.begin().await?;
            store::measure_accounts(tx.conn(), &ids, &domains, now).await?;
            tx.commit().await?;
            let domains: BTreeSet<String> = domains.into_iter().flatten().collect();
            let domains: Vec<String> = domains.into_iter().collect();
            if !domains.is_empty() {
                let mut tx = self.0.storage.begin().await?;
                store::measure_domains(tx.conn(), &domains, now).await?;
                tx.commit().await?;
            }
            tokio::time::sleep(PAUSE).await;
        }
        for account_id in accounts {
            self.0.known.invalidate(&account_id);
        }
        Ok(())
    }

    /// One transaction; whether there may be more.
    async fn count_entries(&self) -> Result<bool, Error> {
        let mut tx = self.0.storage.begin().await?;
        if !store::try_lock(tx.conn()).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let counted = store::count_entries(tx.conn(), ENTRIES).await?;
        tx.commit().await?;
        Ok(counted >= ENTRIES)
    }
}
