//! One listener's way from the past to the present: what a socket and a stream of server-sent events send on.
//!
//! Invariant: the cut-over from the log to the live hub leaves no gap and repeats nothing: the hub hands out everything
//! after the position at which it was joined, and the log is read up to that position.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::log::{self, Delivery, Ended, Filter, Frame, Listener, Log, Signal, Standing, Subscription};
use crate::types::{Cursor, Named};
use crate::xrpc::stream::{Over, Source, info};
use crate::xrpc::{Device, Failure, Fault, Services, parse};

/// Events read from the log at once.
const BACKFILL_EVENTS: u32 = 200;

/// What whoever goes on after such a cursor should know.
fn outdated(standing: Standing) -> Option<&'static str> {
    match standing {
        Standing::Current => None,
        Standing::Lost => {
            Some("a restore took away something that was read before this cursor; nothing after it is missing")
        }
        Standing::Aged => Some("contents of events after this cursor are no longer kept; their headers still come"),
    }
}

pub struct Feed {
    log: Log,
    listener: Listener,
    account_id: i64,
    buffer: usize,
    filter: Filter,
    /// Everything up to here was read or filtered out.
    position: Cursor,
    /// Read and not handed on yet.
    ready: VecDeque<Arc<Frame>>,
    /// Everything up to here was handed on or filtered out.
    handed_on: Cursor,
    phase: Phase,
    /// What the listener should know before anything else.
    told: Option<Arc<Signal>>,
}

enum Phase {
    /// Far behind: reading the log, not yet live in the hub, so that nothing piles up there.
    Behind,
    /// In the hub: reading the log up to the position at which it was joined.
    CatchingUp(Subscription),
    Live(Subscription),
}

impl Feed {
    /// After this cursor; without one, from the present on.
    pub async fn begin<E: Named>(
        cx: &Services,
        caller: &Device,
        cursor: Option<&str>,
        filter: Filter,
    ) -> Result<Self, Failure<E>> {
        let after = cursor.map(|cursor| parse::<_, E>(Cursor::parse, cursor)).transpose()?;
        let listener = cx.log.listen(caller.author.account_id, caller.author.device_row).await?;
        let mut feed = Self {
            log: cx.log.clone(),
            // It lost its right on the way here: asked again, it is told which.
            listener: listener.ok_or(Fault::Unavailable)?,
            account_id: caller.author.account_id,
            buffer: cx.config.log.subscriber_buffer,
            filter,
            position: Cursor(0),
            ready: VecDeque::new(),
            handed_on: Cursor(0),
            phase: Phase::Behind,
            told: None,
        };
        match after {
            Some(after) => {
                feed.position = after;
                if let Some(why) = outdated(cx.log.judge(after).await?) {
                    feed.told = Some(Arc::new(info("OutdatedCursor", why).map_err(log::Error::from)?));
                }
            }
            None => {
                let live = feed.join().await?;
                feed.position = live.position;
                feed.phase = Phase::Live(live);
            }
        }
        feed.handed_on = feed.position;
        Ok(feed)
    }

    async fn join(&self) -> Result<Subscription, log::Error> {
        self.log.subscribe(&self.listener, self.filter.clone(), self.buffer).await
    }

    /// Reads one page into `ready`; whether there is more up to `upto`.
    async fn read(&mut self, upto: Option<Cursor>) -> Result<bool, log::Error> {
        let page = self.log.events(self.account_id, self.position, upto, BACKFILL_EVENTS).await?;
        for event in page.events {
            let frame = event.into_frame()?;
            self.position = frame.cursor;
            if self.filter.wants(&frame) {
                self.ready.push_back(Arc::new(frame));
            }
        }
        Ok(page.more)
    }

    /// Goes on towards the present.
    async fn step(&mut self) -> Result<(), log::Error> {
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

impl Source for Feed {
    async fn next(&mut self) -> Result<Delivery, Over> {
        if let Some(info) = self.told.take() {
            return Ok(Delivery::Ephemeral(info));
        }
        loop {
            if let Some(frame) = self.ready.pop_front() {
                self.handed_on = frame.cursor;
                return Ok(Delivery::Stored(frame));
            }
            self.handed_on = self.position;
            if let Phase::Live(subscription) = &mut self.phase {
                match subscription.next().await {
                    Ok(Delivery::Stored(frame)) if frame.cursor <= self.position => continue,
                    Ok(Delivery::Stored(frame)) => {
                        self.position = frame.cursor;
                        self.handed_on = frame.cursor;
                        return Ok(Delivery::Stored(frame));
                    }
                    Ok(signal @ Delivery::Ephemeral(_)) => return Ok(signal),
                    Err(Ended::TooSlow) => return Err(Over::TOO_SLOW),
                    Err(Ended::Closed) => return Err(Over::CLOSED),
                }
            }
            if let Err(error) = self.step().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "a subscription could not read the log");
                return Err(Over::UNAVAILABLE);
            }
        }
    }

    fn cursor(&self) -> Cursor {
        self.handed_on
    }

    fn ended(&self) -> CancellationToken {
        self.listener.ended().clone()
    }
}

/// What a subscriber wants, from its parameters.
pub fn filter(streams: Option<Vec<String>>, kinds: Option<Vec<String>>) -> Filter {
    Filter {
        streams: streams.unwrap_or_default().into_iter().collect(),
        kinds: kinds.unwrap_or_default().into_iter().collect(),
    }
}
