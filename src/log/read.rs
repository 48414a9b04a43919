//! Reading of entries below the horizon.
//!
//! Invariant: entries that a reader reads across streams have positions below the horizon of the same snapshot, so no
//! entry can later appear behind a cursor. A cursor is the position of an entry that was read, never the horizon.

use super::chain::Head;
use super::page::{self, EntryPage, PageBudget};
use super::store::KeysPerStream;
use super::{Error, Log, NamedKind, store, stream_not_found};
use crate::types::{Cursor, Seq};

/// A span of a stream that a seat covers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Seq,
    pub until: Option<Seq>,
}

impl Window {
    pub fn covers(&self, seq: Seq) -> bool {
        self.from <= seq && self.until.is_none_or(|until| seq <= until)
    }
}

/// Which way to page within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    After(Seq),
    Before(Seq),
}

impl Direction {
    /// A read in this direction that begins at the entry `seq`.
    const fn from(self, seq: Seq) -> Self {
        match self {
            Self::After(_) => Self::After(seq),
            Self::Before(_) => Self::Before(seq),
        }
    }
}

/// Pages of undecodable rows that a reader skips in one call.
const UNDECODABLE_PAGES: usize = 8;

impl Log {
    /// The events that this account may see after `after`, over all its streams, in cursor order; not beyond `upto`.
    pub async fn events(
        &self,
        account_id: i64,
        after: Cursor,
        upto: Option<Cursor>,
        limit: u32,
    ) -> Result<EntryPage, Error> {
        let budget = budget(limit, page::ANSWER_BYTES);
        let found = self.account_keys(account_id, after, upto, one_more(budget)).await?;
        let mut page = self.read_page(account_id, &found.keys, budget).await?;
        page.more |= found.more;
        Ok(page)
    }

    /// Keys of the events that this account may see, at most `limit`, in cursor order. A page that the shares of the
    /// streams cut short is read again, since one stream of many may have most of the entries.
    pub(super) async fn account_keys(
        &self,
        account_id: i64,
        after: Cursor,
        upto: Option<Cursor>,
        limit: i64,
    ) -> Result<store::AccountKeys, Error> {
        let pool = self.inner.storage.pool();
        let found = store::account_keys(pool, account_id, after, upto, limit, KeysPerStream::Share).await?;
        let enough = i64::try_from(found.keys.len()).is_ok_and(|count| count >= limit / 4);
        if enough || !found.more {
            return Ok(found);
        }
        store::account_keys(pool, account_id, after, upto, limit, KeysPerStream::Page).await
    }

    /// Entries of one stream that the account's seats cover, in order. `kinds` empty means all.
    pub async fn entries(
        &self,
        stream_id: i64,
        account_id: i64,
        direction: Direction,
        kinds: &[NamedKind],
        limit: u32,
    ) -> Result<EntryPage, Error> {
        let kinds = store::KindFilter::of(kinds);
        let (budget, mut direction) = (budget(limit, page::ANSWER_BYTES), direction);
        let mut page = EntryPage::EMPTY;
        // Clients of this method continue from its entries, so it answers an empty page only at the end of the stream.
        for _ in 0..UNDECODABLE_PAGES {
            page = self.entries_once(stream_id, account_id, direction, &kinds, budget).await?;
            match page.reached {
                Some((_, seq)) if page.events.is_empty() && page.more => direction = direction.from(seq),
                _ => break,
            }
        }
        Ok(page)
    }

    async fn entries_once(
        &self,
        stream_id: i64,
        account_id: i64,
        direction: Direction,
        kinds: &store::KindFilter,
        budget: PageBudget,
    ) -> Result<EntryPage, Error> {
        let (pool, rows) = (self.inner.storage.pool(), one_more(budget));
        match direction {
            Direction::After(seq) => {
                let keys = store::keys_after(pool, stream_id, account_id, seq, kinds, rows).await?;
                self.read_page(account_id, &keys, budget).await
            }
            Direction::Before(seq) => {
                let keys = store::keys_before(pool, stream_id, account_id, seq, kinds, rows).await?;
                let mut page = self.read_page(account_id, &keys, budget).await?;
                page.events.reverse();
                Ok(page)
            }
        }
    }

    /// The spans of a stream that the account may read, oldest first; empty for a stranger.
    pub async fn windows(&self, stream_id: i64, account_id: i64) -> Result<Vec<Window>, Error> {
        store::windows(self.inner.storage.pool(), stream_id, account_id).await
    }

    /// Whether the account has an open seat there, shown to it or not.
    pub async fn is_seated(&self, stream_id: i64, account_id: i64) -> Result<bool, Error> {
        store::is_seated(self.inner.storage.pool(), stream_id, account_id).await
    }

    /// The stream's head as these windows show it: that of the last entry covered. To a stranger there is no stream.
    pub async fn visible_head(&self, stream_id: i64, windows: &[Window]) -> Result<Head, Error> {
        let last = windows.last().ok_or_else(stream_not_found)?;
        let pool = self.inner.storage.pool();
        let head = store::stream_row(pool, stream_id).await?.head();
        let Some(until) = last.until else { return Ok(head) };
        let (header, hash) = store::find_head(pool, stream_id, until).await?.ok_or_else(stream_not_found)?;
        Ok(Head { term: header.term, seq: until, hash, time: header.time, ..head })
    }
}

fn budget(limit: u32, bytes: usize) -> PageBudget {
    PageBudget { entries: usize::try_from(limit).unwrap_or(usize::MAX), bytes }
}

/// Keys to ask for: one beyond the page shows that there are more.
fn one_more(budget: PageBudget) -> i64 {
    i64::try_from(budget.entries).unwrap_or(i64::MAX).saturating_add(1)
}
