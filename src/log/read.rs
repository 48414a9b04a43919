//! Reading below the fence.
//!
//! Invariant: what comes across streams has a position below the fence of the same snapshot, so nothing can later appear
//! behind a cursor. A cursor is the position of an entry that was delivered, never the fence.

use super::chain::Head;
use super::{EntryKind, Error, Event, Log, store, stream_not_found};
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

/// Events in order, and whether there are more.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    pub events: Vec<Event>,
    pub more: bool,
}

impl Page {
    /// From one row more than `limit` asks for.
    fn of(mut events: Vec<Event>, limit: u32) -> Self {
        let limit = limit as usize;
        let more = events.len() > limit;
        events.truncate(limit);
        Self { events, more }
    }
}

impl Log {
    /// What this account may see after `after`, over all its streams, in cursor order; not beyond `upto`.
    pub async fn events(
        &self,
        account_id: i64,
        after: Cursor,
        upto: Option<Cursor>,
        limit: u32,
    ) -> Result<Page, Error> {
        let pool = self.inner.storage.pool();
        let events = store::events(pool, account_id, after, upto, i64::from(limit) + 1).await?;
        Ok(Page::of(events, limit))
    }

    /// Entries of one stream that the account's seats cover, in order. `kinds` empty means all.
    pub async fn entries(
        &self,
        stream_id: i64,
        account_id: i64,
        direction: Direction,
        kinds: &[EntryKind],
        limit: u32,
    ) -> Result<Page, Error> {
        let kinds: Vec<i16> = kinds.iter().map(|kind| kind.to_db()).collect();
        let pool = self.inner.storage.pool();
        let rows = i64::from(limit) + 1;
        Ok(match direction {
            Direction::After(seq) => {
                Page::of(store::entries_after(pool, stream_id, account_id, seq, &kinds, rows).await?, limit)
            }
            Direction::Before(seq) => {
                let mut page =
                    Page::of(store::entries_before(pool, stream_id, account_id, seq, &kinds, rows).await?, limit);
                page.events.reverse();
                page
            }
        })
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
