//! Server-sent events (WHATWG HTML, section 9.2).
//!
//! Invariants: what fails before the first byte is an ordinary answer, what fails later an event `#error`; an answer
//! ends itself before it is too large or too old for a PDS between us and the client, and says where to go on from;
//! nothing is read for a client that reads nothing; no event waits for another to fill a compression block of a proxy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderName, HeaderValue, header};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;

use super::gzip::{self, Gzip};
use super::source::{Opening, Over, Source, begin, count_end};
use crate::lexicon::Method;
use crate::log::{Delivery, server_sent};
use crate::types::Cursor;
use crate::xrpc::{Api, Caller, Services, method};

/// The first byte is sent at once, so that a PDS that waits for it sees the stream begin.
const FIRST: Bytes = Bytes::from_static(b": events follow\n\n");
const SIGN_OF_LIFE: Bytes = Bytes::from_static(b":\n\n");
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Bytes kept back for the last event.
const LAST_BYTES: usize = 256;

impl Api {
    /// Mounts a query that answers with server-sent events.
    pub fn server_sent<M, C, F>(self, opening: F) -> Self
    where
        M: Method,
        C: Caller + 'static,
        F: for<'a> Opening<'a, M, C> + Clone + 'static,
    {
        let route = move |State(cx): State<Services>, request: Request| {
            let opening = opening.clone();
            async move { answer::<M, C, F>(cx, opening, request).await }
        };
        self.route::<M>(C::RULE, get(route))
    }
}

async fn answer<M, C, F>(cx: Services, opening: F, request: Request) -> Response
where
    M: Method,
    C: Caller,
    F: for<'a> Opening<'a, M, C>,
{
    let (parts, _) = request.into_parts();
    let begun = async {
        method::refuse_body(&parts.headers)?;
        begin::<M, C, F>(&cx, &opening, &parts).await
    };
    let source = match begun.await {
        Ok(begun) => begun,
        Err(failure) => return failure.into_response(),
    };
    let (gzip, encoding) =
        if gzip::accepted(&parts.headers) { (Some(Gzip::begin()), "gzip") } else { (None, "identity") };
    let mut response = Response::new(Body::from_stream(Sending::new(&cx, source, gzip).events()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx holds back what it buffers, unless the answer says otherwise.
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    response
}

struct Sending<S> {
    source: S,
    ended: CancellationToken,
    stopping: CancellationToken,
    signs: Interval,
    until: Instant,
    most_bytes: usize,
    sent_bytes: usize,
    sent_events: usize,
    phase: Phase,
    /// For who takes it; none for who wants the text as it is.
    gzip: Option<Gzip>,
    /// Parts of what comes next.
    waiting: VecDeque<Bytes>,
}

enum Phase {
    First,
    Events,
    Done,
}

/// The next part of the answer.
enum Next {
    Event(Bytes),
    SignOfLife,
    End,
    Over(Over),
}

impl<S: Source> Sending<S> {
    fn new(cx: &Services, source: S, gzip: Option<(Gzip, Bytes)>) -> Self {
        let limits = &cx.config.streams;
        let every: Duration = limits.heartbeat;
        let mut signs = interval_at(Instant::now() + every, every);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (gzip, header) = gzip.unzip();
        Self {
            ended: source.ended(),
            source,
            stopping: cx.stopping.clone(),
            signs,
            until: Instant::now() + limits.answer_life,
            most_bytes: limits.answer_bytes,
            sent_bytes: 0,
            sent_events: 0,
            phase: Phase::First,
            gzip,
            waiting: header.into_iter().collect(),
        }
    }

    /// Polled only while the connection has room: nothing piles up here.
    fn events(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::unfold(self, async |mut sending| {
            let bytes = sending.encoded().await?;
            sending.sent_bytes += bytes.len();
            Some((Ok(bytes), sending))
        })
    }

    /// The next bytes as they go out.
    async fn encoded(&mut self) -> Option<Bytes> {
        while self.waiting.is_empty() {
            match (self.next().await, &mut self.gzip) {
                (text, None) => return text,
                (Some(text), Some(gzip)) => self.waiting.extend(gzip.write(text)),
                (None, Some(_)) => return self.gzip.take().map(Gzip::end),
            }
        }
        self.waiting.pop_front()
    }

    async fn next(&mut self) -> Option<Bytes> {
        match self.phase {
            Phase::First => {
                self.phase = Phase::Events;
                return Some(FIRST);
            }
            Phase::Events => {}
            Phase::Done => return None,
        }
        let before = self.source.cursor();
        let next = tokio::select! {
            biased;
            () = self.stopping.cancelled() => Next::End,
            () = self.ended.cancelled() => Next::Over(Over::CLOSED),
            () = sleep_until(self.until) => Next::End,
            next = self.source.next() => match next.map(|delivery| text(&delivery)) {
                Ok(Some(text)) => Next::Event(text),
                Ok(None) => Next::Over(Over::UNAVAILABLE),
                Err(over) => Next::Over(over),
            },
            _ = self.signs.tick() => Next::SignOfLife,
        };
        Some(match next {
            // An event that is larger than an answer's limit goes alone: otherwise no client could get past it.
            Next::Event(text) if self.is_full(text.len()) && self.sent_events > 0 => self.end(before),
            Next::SignOfLife if self.is_full(SIGN_OF_LIFE.len()) => self.end(self.source.cursor()),
            Next::Event(text) => {
                self.sent_events += 1;
                self.signs.reset();
                text
            }
            Next::SignOfLife => SIGN_OF_LIFE,
            Next::End => self.end(self.source.cursor()),
            Next::Over(over) => {
                count_end(over.name);
                self.last(before, "#error", &json!({ "error": over.name, "message": over.message }))
            }
        })
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        self.sent_bytes + more_bytes + LAST_BYTES > self.most_bytes
    }

    fn end(&mut self, cursor: Cursor) -> Bytes {
        self.last(cursor, "#end", &json!({ "cursor": cursor.to_string() }))
    }

    fn last(&mut self, cursor: Cursor, kind: &str, data: &serde_json::Value) -> Bytes {
        self.phase = Phase::Done;
        server_sent(Some(cursor), kind, data).unwrap_or_default()
    }
}

fn text(delivery: &Delivery) -> Option<Bytes> {
    match delivery {
        Delivery::Stored(frame) => frame.text().ok(),
        Delivery::Ephemeral(signal) => Some(signal.text.clone()),
    }
}
