//! One listener's way from the past to the present.
//!
//! Invariant: the cut-over from the log to the live hub leaves no gap and repeats nothing: the hub hands out everything
//! after the position at which it was joined, and the log is read up to that position.

use std::collections::VecDeque;
use std::sync::Arc;

use super::page::{BACKFILL_BYTES, EntryKey, MemoryShare, PageBudget};
use super::{Delivery, Ended, Error, Event, Filter, Frame, Listener, Log, Subscription};
use crate::config::SubscriberBuffer;
use crate::types::Cursor;

/// Entries that one read of the log returns, if their bytes allow so many.
const BACKFILL: PageBudget = PageBudget { entries: 200, bytes: BACKFILL_BYTES };
/// Keys that one look at all streams of the account returns: five pages, because the look costs a search in each stream.
const KEYS: i64 = 1_000;

/// Everything that a listener may see and wants, from a cursor on.
pub struct CutOver {
    log: Log,
    listener: Listener,
    buffer: SubscriberBuffer,
    filter: Filter,
    /// Everything up to here was read or filtered out.
    position: Cursor,
    /// Keys of the entries that follow, as far as they were looked up. A later change of a seat hides none of them.
    keys: Vec<EntryKey>,
    /// There may be entries behind the last of `keys`.
    beyond_keys: bool,
    /// Read and not handed on yet.
    ready: VecDeque<Arc<Frame>>,
    /// The memory held for `ready`.
    memory: Option<MemoryShare>,
    /// Everything up to here was handed on or filtered out.
    handed_on: Cursor,
    phase: Phase,
}

enum Phase {
    /// Far behind: reading the log, not yet live in the hub, so that nothing piles up there.
    Behind,
    /// In the hub: reading the log up to the position at which it was joined.
    CatchingUp(Subscription),
    Live(Subscription),
}

impl Log {
    /// Subscribes after the cursor, or without one from the present on. Once live, the listener may lag behind by
    /// `buffer`.
    pub async fn cut_over(
        &self,
        listener: Listener,
        after: Option<Cursor>,
        filter: Filter,
        buffer: SubscriberBuffer,
    ) -> Result<CutOver, Error> {
        let (position, phase) = match after {
            Some(after) => (after, Phase::Behind),
            None => {
                let live = self.subscribe(&listener, filter.clone(), buffer).await?;
                (live.position, Phase::Live(live))
            }
        };
        let log = self.clone();
        let (ready, handed_on) = (VecDeque::new(), position);
        let (keys, beyond_keys) = (Vec::new(), false);
        Ok(CutOver {
            log,
            listener,
            buffer,
            filter,
            position,
            keys,
            beyond_keys,
            ready,
            memory: None,
            handed_on,
            phase,
        })
    }
}

impl CutOver {
    /// The next event, or why there is none any more. May be dropped and asked again.
    pub async fn next(&mut self) -> Result<Result<Delivery, Ended>, Error> {
        loop {
            if let Some(delivery) = self.next_now() {
                return Ok(Ok(delivery));
            }
            if let Phase::Live(subscription) = &mut self.phase {
                match subscription.next().await {
                    Ok(delivery) => {
                        if let Some(delivery) = self.unread(delivery) {
                            return Ok(Ok(delivery));
                        }
                    }
                    Err(ended) => return Ok(Err(ended)),
                }
            } else {
                // On the heap: the way from the past is short, and its future is large.
                Box::pin(self.step()).await?;
            }
        }
    }

    /// The next event if there is one already.
    pub fn next_now(&mut self) -> Option<Delivery> {
        if let Some(frame) = self.ready.pop_front() {
            self.handed_on = frame.cursor;
            return Some(Delivery::Stored(frame));
        }
        if self.memory.is_some() {
            (self.ready, self.memory) = (VecDeque::new(), None);
        }
        self.handed_on = self.position;
        loop {
            let Phase::Live(subscription) = &mut self.phase else { return None };
            let delivery = subscription.next_now()?;
            if let Some(delivery) = self.unread(delivery) {
                return Some(delivery);
            }
        }
    }

    /// The event, unless it was read from the log.
    fn unread(&mut self, delivery: Delivery) -> Option<Delivery> {
        if let Delivery::Stored(frame) = &delivery {
            if frame.cursor <= self.position {
                return None;
            }
            self.position = frame.cursor;
            self.handed_on = frame.cursor;
        }
        Some(delivery)
    }

    /// Where to go on from: everything up to here came out of [`Self::next`], or was not wanted.
    pub fn cursor(&self) -> Cursor {
        self.handed_on
    }

    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    async fn join(&self) -> Result<Subscription, Error> {
        self.log.subscribe(&self.listener, self.filter.clone(), self.buffer).await
    }

    /// Reads one page into `ready`; whether there is more up to `upto`.
    async fn read(&mut self, upto: Option<Cursor>) -> Result<bool, Error> {
        let account_id = self.listener.account_id;
        if self.keys.is_empty() {
            let found = self.log.account_keys(account_id, self.position, upto, KEYS).await?;
            (self.keys, self.beyond_keys) = (found.keys, found.more);
        }
        let page = self.log.read_page(account_id, &self.keys, BACKFILL).await?;
        let reached = page.reached;
        let (events, memory) = page.into_parts();
        if let Some((cursor, _)) = reached {
            self.keys.drain(..self.keys.partition_point(|key| key.cursor <= cursor));
        }
        if self.keys.is_empty() {
            self.keys = Vec::new();
        }
        let more = self.beyond_keys || !self.keys.is_empty();
        let frames = events.into_iter().filter_map(Event::into_frame_or_skip);
        self.ready.extend(frames.filter(|frame| self.filter.wants(frame)).map(Arc::new));
        if let Some((cursor, _)) = reached {
            self.position = cursor;
        }
        self.memory = memory.filter(|_| !self.ready.is_empty());
        Ok(more)
    }

    /// Goes on towards the present.
    async fn step(&mut self) -> Result<(), Error> {
        match &self.phase {
            Phase::Behind => {
                if !self.read(None).await? {
                    self.phase = Phase::CatchingUp(self.join().await?);
                }
            }
            Phase::CatchingUp(subscription) => {
                let upto = subscription.position;
                if !self.read(Some(upto)).await? {
                    self.position = self.position.max(upto);
                    if let Phase::CatchingUp(subscription) = std::mem::replace(&mut self.phase, Phase::Behind) {
                        self.phase = Phase::Live(subscription);
                    }
                }
            }
            Phase::Live(_) => {}
        }
        Ok(())
    }
}
