//! A subscription over a WebSocket.
//!
//! Invariants: one binary message is one frame; a refused subscriber gets an error frame and close code
//! 1008 after the upgrade, as AT Protocol clients expect; a stopping server, and a socket whose time is over, close with
//! 1001, so that clients reconnect; a client that takes nothing does not keep its socket open beyond its right, and one
//! that answers no ping does not keep it at all; nothing that a client sends costs more than reading it; and both sides
//! say good-bye before the connection goes.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use rand::RngExt;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::error_frame;
use super::source::{Opening, Over, Source, begin, count_end};
use crate::lexicon::Method;
use crate::log::Delivery;
use crate::xrpc::{Api, Caller, Failure, Fault, Services};

/// Bytes of buffer for each socket, each way: an idle one must cost little.
const BUFFER_BYTES: usize = 4096;
/// A client has nothing to say but control frames.
const CLIENT_MESSAGE_BYTES: usize = 4096;
/// Pings that a client may leave unanswered; it is gone when the next one is due.
const UNANSWERED_PINGS: u32 = 2;
/// Control frames that a client may send at once, and how soon one more is granted.
const CONTROL_FRAMES: u32 = 10;
const CONTROL_FRAME_EVERY: Duration = Duration::from_secs(1);
/// Time for the proof of the caller, from the upgrade on.
const PROOF: Duration = Duration::from_secs(10);
/// The lives of sockets differ, so that those that were opened together do not come back together.
const LIFE_SPREAD: Range<f64> = 0.9..1.1;
/// Time in which a client must take the last frame and answer the close frame.
const LAST_WORD: Duration = Duration::from_millis(500);

impl Api {
    /// Mounts a subscription.
    pub fn subscription<M, C, F>(self, opening: F) -> Self
    where
        M: Method,
        C: Caller + 'static,
        F: for<'a> Opening<'a, M, C> + Clone + 'static,
    {
        let route = move |State(cx): State<Services>, request: Request| {
            let opening = opening.clone();
            async move { upgrade::<M, C, F>(cx, opening, request).await }
        };
        self.route::<M>(C::RULE, get(route))
    }
}

async fn upgrade<M, C, F>(cx: Services, opening: F, request: Request) -> Response
where
    M: Method,
    C: Caller + 'static,
    F: for<'a> Opening<'a, M, C> + 'static,
{
    let (mut parts, _) = request.into_parts();
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &cx).await else {
        let body = serde_json::json!({
            "error": "InvalidRequest",
            "message": "XRPC subscriptions are only available over WebSocket"
        });
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], axum::Json(body)).into_response();
    };
    let span = tracing::Span::current();
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(CLIENT_MESSAGE_BYTES)
        .on_upgrade(move |socket| {
            let sockets = cx.sockets.clone();
            let served = async move { serve::<M, C, F>(&cx, &opening, &parts, socket).await };
            sockets.track_future(tracing::Instrument::instrument(served, span))
        })
}

async fn serve<M, C, F>(cx: &Services, opening: &F, parts: &Parts, mut socket: WebSocket)
where
    M: Method,
    C: Caller,
    F: for<'a> Opening<'a, M, C>,
{
    let begun = timeout(PROOF, begin::<M, C, F>(cx, opening, parts)).await;
    let last = match begun.unwrap_or(Err(Fault::TimedOut.into())) {
        Ok(source) => pump(cx, source, &mut socket).await,
        Err(failure) => {
            if let Failure::Fault(Fault::Internal(error)) = &failure {
                let error: &(dyn std::error::Error + 'static) = error.as_ref();
                tracing::error!(error, "a subscription failed by our own mistake");
            }
            let (name, message) = failure.told();
            Last::refuse(name, &message)
        }
    };
    // A client that does not take the last frame is gone.
    drop(timeout(LAST_WORD, last.say(&mut socket)).await);
}

/// The last that a client hears.
struct Last {
    frame: Option<Bytes>,
    close: Close,
}

enum Close {
    /// We say good-bye, and the client answers.
    With(u16, &'static str),
    /// The client sent a close frame, and gets an answer.
    Answer,
    /// The client is gone.
    Gone,
}

impl Last {
    const STOPPING: Self = Self { frame: None, close: Close::With(close_code::AWAY, "the server is stopping") };
    const LIVED: Self = Self { frame: None, close: Close::With(close_code::AWAY, "the socket's time is over") };
    const ANSWER: Self = Self { frame: None, close: Close::Answer };
    const NOTHING: Self = Self { frame: None, close: Close::Gone };

    fn refuse(name: &'static str, message: &str) -> Self {
        Self::refuse_by(close_code::POLICY, name, message)
    }

    fn refuse_by(code: u16, name: &'static str, message: &str) -> Self {
        count_end(name);
        Self { frame: Some(error_frame(name, message)), close: Close::With(code, name) }
    }

    fn over(over: Over) -> Self {
        Self::refuse(over.name, over.message)
    }

    async fn say(self, socket: &mut WebSocket) -> Result<(), axum::Error> {
        if let Some(frame) = self.frame {
            socket.send(Message::Binary(frame)).await?;
        }
        match self.close {
            Close::With(code, reason) => {
                socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
            }
            // The answer is written by the next look at the socket.
            Close::Answer => {}
            Close::Gone => return Ok(()),
        }
        // Reads up to the client's close frame: a connection that ends with unread bytes is reset, and loses the last
        // frames.
        while let Some(heard) = socket.recv().await {
            heard?;
        }
        Ok(())
    }
}

async fn pump(cx: &Services, mut source: impl Source, socket: &mut WebSocket) -> Last {
    let limits = &cx.config.streams;
    let ended = source.ended();
    let mut lived = pin!(sleep(limits.socket_life.mul_f64(rand::rng().random_range(LIFE_SPREAD))));
    let mut client = Client::new(limits.socket_ping);
    loop {
        // One wait for the next event until it is there: frames of the client do not restart it.
        let mut next = pin!(source.next());
        let delivery = loop {
            let heard = tokio::select! {
                () = cx.stopping.cancelled() => return Last::STOPPING,
                () = ended.cancelled() => return Last::over(Over::CLOSED),
                () = &mut lived => return Last::LIVED,
                heard = socket.recv() => client.said(heard.as_ref()),
                _ = client.pings.tick() => match client.ping() {
                    Some(ping) => match send(cx, &ended, socket, ping).await {
                        Ok(()) => continue,
                        Err(last) => Some(last),
                    },
                    None => Some(Last::NOTHING),
                },
                next = &mut next => match next {
                    Ok(delivery) => break delivery,
                    Err(over) => Some(Last::over(over)),
                },
            };
            if let Some(last) = heard {
                return last;
            }
        };
        let message = Message::Binary(match delivery {
            Delivery::Stored(frame) => frame.bytes.clone(),
            Delivery::Ephemeral(signal) => signal.bytes.clone(),
        });
        if let Err(last) = send(cx, &ended, socket, message).await {
            return last;
        }
    }
}

/// Sends one message, while the client takes it and the right to listen lasts.
async fn send(cx: &Services, ended: &CancellationToken, socket: &mut WebSocket, message: Message) -> Result<(), Last> {
    tokio::select! {
        sent = timeout(cx.config.streams.send_timeout, socket.send(message)) => match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Last::NOTHING),
        },
        () = ended.cancelled() => Err(Last::over(Over::CLOSED)),
        () = cx.stopping.cancelled() => Err(Last::STOPPING),
    }
}

/// The server's state of the client.
struct Client {
    pings: Interval,
    unanswered: u32,
    /// Control frames that it may still send.
    control_frames: u32,
    granted_at: Instant,
}

impl Client {
    fn new(ping_every: Duration) -> Self {
        let now = Instant::now();
        let mut pings = interval_at(now + ping_every, ping_every);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pings, unanswered: 0, control_frames: CONTROL_FRAMES, granted_at: now }
    }

    /// The next ping, unless the client left too many unanswered.
    fn ping(&mut self) -> Option<Message> {
        (self.unanswered < UNANSWERED_PINGS).then(|| {
            self.unanswered += 1;
            Message::Ping(Bytes::new())
        })
    }

    /// Takes in what the client said; the end, if that was one.
    fn said(&mut self, heard: Option<&Result<Message, axum::Error>>) -> Option<Last> {
        match heard {
            Some(Ok(Message::Pong(_))) if self.unanswered > 0 => {
                self.unanswered = 0;
                None
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => (!self.may_say_more())
                .then(|| Last::refuse("RateLimitExceeded", "a subscriber sends at most one control frame a second")),
            Some(Ok(Message::Close(_))) => Some(Last::ANSWER),
            Some(Err(_)) | None => Some(Last::NOTHING),
            Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                Some(Last::refuse_by(close_code::UNSUPPORTED, "InvalidRequest", "a subscriber sends nothing"))
            }
        }
    }

    fn may_say_more(&mut self) -> bool {
        let granted = self.granted_at.elapsed().as_secs() / CONTROL_FRAME_EVERY.as_secs();
        if granted > 0 {
            let granted = u32::try_from(granted).unwrap_or(u32::MAX);
            self.control_frames = self.control_frames.saturating_add(granted).min(CONTROL_FRAMES);
            self.granted_at = Instant::now();
        }
        let may = self.control_frames > 0;
        self.control_frames = self.control_frames.saturating_sub(1);
        may
    }
}
