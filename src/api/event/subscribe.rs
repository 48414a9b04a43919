//! `blue.catbird.event.subscribe`: events as they happen; with a cursor, first those that were missed.
//!
//! Invariant: the cut-over from the log to the live hub leaves no gap and repeats nothing: the hub hands out everything
//! after the position at which it was joined, and the log is read up to that position.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::identity::TokenRefused;
use crate::lexicon::event::subscribe::{Error, Params};
use crate::log::{self, Delivery, Ended, Filter, Log, Subscription};
use crate::types::Cursor;
use crate::xrpc::stream::{Source, info_frame};
use crate::xrpc::{Device, Failure, Fault, Services, parse};

/// Events read from the log at once.
const BACKFILL_EVENTS: u32 = 200;
const OUTDATED: &str = "contents of events after this cursor are no longer kept; their headers still come";

pub async fn subscribe(cx: &Services, caller: Device, params: Params) -> Result<Feed, Failure<Error>> {
    let filter = Filter {
        streams: params.streams.unwrap_or_default().into_iter().collect(),
        kinds: params.kinds.unwrap_or_default().into_iter().collect(),
    };
    let mut feed = Feed {
        log: cx.log.clone(),
        account_id: caller.author.account_id,
        device_row: caller.author.device_row,
        buffer: cx.config.log.subscriber_buffer,
        filter,
        position: Cursor(0),
        ready: VecDeque::new(),
        phase: Phase::Behind,
    };
    match &params.cursor {
        Some(cursor) => {
            feed.position = parse(Cursor::parse, cursor)?;
            if cx.log.is_outdated(feed.position).await? {
                feed.ready.push_back(info_frame("OutdatedCursor", OUTDATED));
            }
        }
        None => {
            let live = feed.join().await?;
            feed.position = live.position;
            feed.phase = Phase::Live(live);
            if !cx.log.may_listen(feed.device_row).await? {
                return Err(Fault::from(TokenRefused::DeviceRevoked).into());
            }
        }
    }
    Ok(feed)
}

/// One subscriber's way from the past to the present.
pub struct Feed {
    log: Log,
    account_id: i64,
    device_row: i64,
    buffer: usize,
    filter: Filter,
    /// Everything up to here was handed on, or filtered out.
    position: Cursor,
    ready: VecDeque<Bytes>,
    phase: Phase,
}

enum Phase {
    /// Far behind: reading the log, not yet in the hub, so that nothing piles up there.
    Behind,
    /// In the hub: reading the log up to the position at which it was joined.
    CatchingUp(Subscription),
    Live(Subscription),
}

impl Feed {
    async fn join(&self) -> Result<Subscription, log::Error> {
        self.log.subscribe(self.account_id, self.device_row, self.filter.clone(), self.buffer).await
    }

    /// Reads one page into `ready`; whether there is more up to `upto`.
    async fn read(&mut self, upto: Option<Cursor>) -> Result<bool, log::Error> {
        let page = self.log.events(self.account_id, self.position, upto, BACKFILL_EVENTS).await?;
        for event in page.events {
            let frame = event.into_frame()?;
            self.position = frame.cursor;
            if self.filter.wants(&frame) {
                self.ready.push_back(frame.bytes);
            }
        }
        Ok(page.more)
    }

    /// Goes on towards the present; whether the device may still listen.
    async fn step(&mut self) -> Result<bool, log::Error> {
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
        self.log.may_listen(self.device_row).await
    }
}

impl Source for Feed {
    async fn next(&mut self) -> Result<Bytes, (&'static str, String)> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(bytes);
            }
            let position = self.position;
            if let Phase::Live(subscription) = &mut self.phase {
                match subscription.next().await {
                    Ok(Delivery::Stored(frame)) if frame.cursor <= position => continue,
                    Ok(Delivery::Stored(frame)) => {
                        self.position = frame.cursor;
                        return Ok(frame.bytes.clone());
                    }
                    Ok(Delivery::Ephemeral(signal)) => return Ok(signal.bytes.clone()),
                    Err(Ended::TooSlow) => {
                        return Err(("ConsumerTooSlow", "the subscriber did not keep up; resume by cursor".to_owned()));
                    }
                    Err(Ended::Closed) => return Err(closed()),
                }
            }
            match self.step().await {
                Ok(true) => {}
                Ok(false) => return Err(closed()),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a subscription could not read the log");
                    return Err(("Unavailable", "the log cannot be read now; resume by cursor".to_owned()));
                }
            }
        }
    }
}

fn closed() -> (&'static str, String) {
    ("SubscriptionClosed", "the device's right ended, or newer sockets took its place".to_owned())
}
