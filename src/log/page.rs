//! Reading of entries in pages that are bounded in bytes.
//!
//! Invariants: a page holds at least one entry and ends before its budget of bytes; the lengths come from the key
//! query, so that contents beyond the budget are never read; [`ReadMemory`] bounds the memory of all pages of this
//! instance together, and of those of one account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Error, Event, Log, store};
use crate::types::{Cursor, Seq};

/// Bytes of headers and contents in one answer. JSON takes a third more, below the 8 MiB that a PDS passes on.
pub(super) const ANSWER_BYTES: usize = 4 << 20;
/// Bytes of headers and contents that one step of a listener's backfill reads.
pub(super) const BACKFILL_BYTES: usize = 1 << 20;
/// Bytes of headers and contents that one step of the tailer reads.
pub(super) const TAIL_BYTES: usize = 8 << 20;

/// The most bytes that all pages of this instance hold together, and those of one account.
const INSTANCE_BYTES: usize = 64 << 20;
const ACCOUNT_BYTES: usize = INSTANCE_BYTES / 8;
/// Bytes that one permit of a semaphore stands for.
const PERMIT_BYTES: usize = 1 << 10;

/// The position and the length of an entry, read before its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryKey {
    pub cursor: Cursor,
    pub stream_id: i64,
    pub seq: Seq,
    /// The number of the entry's kind in Postgres.
    pub kind: i16,
    /// Bytes of header and content.
    pub bytes: usize,
}

/// The budget of one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageBudget {
    pub entries: usize,
    pub bytes: usize,
}

impl PageBudget {
    /// The number of keys that fit into the page: at least one, if there is one.
    pub fn fit(self, keys: &[EntryKey]) -> usize {
        let mut bytes = 0_usize;
        let fitting = keys.iter().take(self.entries).take_while(|key| {
            bytes = bytes.saturating_add(key.bytes);
            bytes <= self.bytes
        });
        fitting.count().max(usize::from(!keys.is_empty()))
    }
}

/// A share of the memory, held until this value is dropped.
#[derive(Debug)]
pub(super) struct MemoryShare {
    _permits: [OwnedSemaphorePermit; 2],
}

/// The memory for the pages that readers of this instance hold.
pub(super) struct ReadMemory {
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<i64, Weak<Semaphore>>>,
}

impl ReadMemory {
    pub fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(INSTANCE_BYTES / PERMIT_BYTES)), accounts: Mutex::default() }
    }

    /// Waits until this account may hold `bytes` more. More than an account's whole share counts as its whole share.
    pub async fn take(&self, account_id: i64, bytes: usize) -> Result<MemoryShare, Error> {
        let permits = u32::try_from(bytes.min(ACCOUNT_BYTES).div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        // The account's share first: a reader that waits for it holds no memory of others.
        let own = self.of_account(account_id).acquire_many_owned(permits).await.map_err(|_| Error::Busy)?;
        let all = Arc::clone(&self.all).acquire_many_owned(permits).await.map_err(|_| Error::Busy)?;
        Ok(MemoryShare { _permits: [own, all] })
    }

    fn of_account(&self, account_id: i64) -> Arc<Semaphore> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(semaphore) = accounts.get(&account_id).and_then(Weak::upgrade) {
            return semaphore;
        }
        // Drops the accounts without pages whenever the map has doubled.
        if accounts.len() == accounts.capacity() {
            accounts.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let semaphore = Arc::new(Semaphore::new(ACCOUNT_BYTES / PERMIT_BYTES));
        accounts.insert(account_id, Arc::downgrade(&semaphore));
        semaphore
    }
}

/// Entries in order, and whether there are more.
#[derive(Debug)]
pub struct EntryPage {
    pub events: Vec<Event>,
    pub more: bool,
    /// The last entry that was read, whether its row decoded or not.
    pub reached: Option<(Cursor, Seq)>,
    /// The memory of the page, held for as long as the page is.
    memory: Option<MemoryShare>,
}

impl EntryPage {
    /// A page without an entry.
    pub const EMPTY: Self = Self { events: Vec::new(), more: false, reached: None, memory: None };

    pub(super) fn into_parts(self) -> (Vec<Event>, Option<MemoryShare>) {
        (self.events, self.memory)
    }
}

impl Log {
    /// Reads the entries of the keys that fit the budget. The key query asked for one key beyond the budget.
    pub(super) async fn read_page(
        &self,
        account_id: i64,
        keys: &[EntryKey],
        budget: PageBudget,
    ) -> Result<EntryPage, Error> {
        let (fitting, rest) = keys.split_at(budget.fit(keys));
        let Some(last) = fitting.last() else { return Ok(EntryPage::EMPTY) };
        let bytes = fitting.iter().fold(0_usize, |sum, key| sum.saturating_add(key.bytes));
        let memory = self.inner.read_memory.take(account_id, bytes).await?;
        let events = store::read_entries(self.inner.storage.pool(), fitting).await?;
        let reached = Some((last.cursor, last.seq));
        Ok(EntryPage { events, more: !rest.is_empty(), reached, memory: Some(memory) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys(sizes: &[usize]) -> Vec<EntryKey> {
        let key = |(&bytes, seq)| EntryKey { cursor: Cursor(seq), stream_id: 1, seq: Seq(seq), kind: 4, bytes };
        sizes.iter().zip(1..).map(key).collect()
    }

    #[test]
    fn a_page_holds_at_least_one_entry_and_ends_before_its_budget() {
        let budget = PageBudget { entries: 3, bytes: 100 };
        for (sizes, fit) in [
            (&[][..], 0),
            (&[500, 1], 1),
            (&[60, 40, 1], 2),
            (&[60, 41], 1),
            (&[1, 1, 1, 1], 3),
            (&[99, 500], 1),
            (&[usize::MAX, usize::MAX], 1),
        ] {
            assert_eq!(budget.fit(&keys(sizes)), fit, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn one_account_cannot_take_the_memory_of_all() {
        let memory = ReadMemory::new();
        let held = memory.take(1, usize::MAX).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(20), memory.take(1, 1)).await;
        assert!(waits.is_err(), "the account has its share");
        let mut others = Vec::new();
        for account in 2..=8 {
            others.push(memory.take(account, ACCOUNT_BYTES).await.unwrap());
        }
        let waits = tokio::time::timeout(Duration::from_millis(20), memory.take(9, 1)).await;
        assert!(waits.is_err(), "the instance's limit holds");
        drop(held);
        memory.take(9, 1).await.unwrap();
        memory.take(1, 1).await.unwrap();
        for account in 100..10_000 {
            memory.take(account, 1).await.unwrap();
        }
        assert!(memory.accounts.lock().unwrap().len() < 2_000, "accounts that hold nothing are forgotten");
    }
}
