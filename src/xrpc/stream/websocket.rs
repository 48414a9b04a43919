//! A subscription over a WebSocket.
//!
//! Invariants: one binary message is one frame; a refused subscriber gets an error frame and close code
//! 1008 after the upgrade, as AT Protocol clients expect; a stopping server, and a socket whose time is over, close with
//! 1001, so that clients reconnect; a client that takes nothing does not keep its socket open beyond its right, and one
//! that answers no ping does not keep it at all; nothing that a client sends costs more than reading it; and both sides
//! say good-bye before the connection goes.

use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use rand::RngExt;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::WaitForCancellationFuture;
use tracing::Instrument as _;

use super::error_frame;
use super::socket::{ClientFrame, Socket as RawSocket};
use super::source::{Opening, Over, Source, begin, count_end};
use super::upgrade::{Handshake, Transport};
use crate::lexicon::Method;
use crate::log::{Delivery, binary_message};
use crate::xrpc::{Api, Caller, Failure, Fault, Services};

/// Status codes of close frames (RFC 6455 section 7.4.1).
const AWAY: u16 = 1001;
const PROTOCOL_ERROR: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
/// Events that are there at once are sent together, up to so many bytes of them.
const TOGETHER_BYTES: usize = 64 * 1024;
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
            async move { upgrade::<M, C, F>(cx, opening, request) }
        };
        self.route::<M>(C::RULE, get(route))
    }
}

type Socket = RawSocket<Box<dyn Transport>>;

fn upgrade<M, C, F>(cx: Services, opening: F, request: Request) -> Response
where
    M: Method,
    C: Caller + 'static,
    F: for<'a> Opening<'a, M, C> + 'static,
{
    let (mut parts, _) = request.into_parts();
    let Some(handshake) = Handshake::of(&mut parts) else {
        let body = serde_json::json!({
            "error": "InvalidRequest",
            "message": "XRPC subscriptions are only available over WebSocket"
        });
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], axum::Json(body)).into_response();
    };
    let (response, upgrading) = handshake.answer();
    let sockets = cx.sockets.clone();
    let begun = async move {
        if let Some(connection) = upgrading.await {
            serve::<M, C, F>(cx, opening, parts, Socket::new(connection.transport, connection.received)).await;
        }
    };
    sockets.spawn(begun.in_current_span());
    response
}

/// Proves the caller, then gives the subscription a task of its own: what the proof needed is not kept for the
/// socket's life.
async fn serve<M, C, F>(cx: Services, opening: F, parts: Parts, mut socket: Socket)
where
    M: Method,
    C: Caller,
    F: for<'a> Opening<'a, M, C>,
{
    let begun = timeout(PROOF, begin::<M, C, F>(&cx, &opening, &parts)).await;
    match begun.unwrap_or(Err(Fault::TimedOut.into())) {
        Ok(source) => {
            let sockets = cx.sockets.clone();
            sockets.spawn(Subscriber::new(cx.clone(), socket).run(source));
        }
        Err(failure) => {
            if let Failure::Fault(Fault::Internal(error)) = &failure {
                let error: &(dyn std::error::Error + 'static) = error.as_ref();
                tracing::error!(error, "a subscription failed by our own mistake");
            }
            let (name, message) = failure.told();
            Last::refuse(name, &message).say(&mut socket).await;
        }
    }
}

/// The last that a client hears.
struct Last {
    frame: Option<Bytes>,
    close: Close,
}

enum Close {
    /// We say good-bye, and the client answers.
    With(u16, &'static str),
    /// The client said good-bye with this code, and gets an answer.
    Answer(Option<u16>),
    /// The client is gone.
    Gone,
}

impl Last {
    const STOPPING: Self = Self { frame: None, close: Close::With(AWAY, "the server is stopping") };
    const LIVED: Self = Self { frame: None, close: Close::With(AWAY, "the socket's time is over") };
    const NOTHING: Self = Self { frame: None, close: Close::Gone };

    /// Codes below 1000 and reserved codes are not answered as they are (RFC 6455 section 7.4).
    fn answer(code: Option<u16>) -> Self {
        let code = code.map(|code| match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => code,
            _ => PROTOCOL_ERROR,
        });
        Self { frame: None, close: Close::Answer(code) }
    }

    fn refuse(name: &'static str, message: &str) -> Self {
        Self::refuse_by(POLICY, name, message)
    }

    fn refuse_by(code: u16, name: &'static str, message: &str) -> Self {
        count_end(name);
        Self { frame: Some(error_frame(name, message)), close: Close::With(code, name) }
    }

    fn over(over: Over) -> Self {
        Self::refuse(over.name, over.message)
    }

    /// Says good-bye. A client that does not take the last frame in time is gone.
    async fn say(self, socket: &mut Socket) {
        drop(timeout(LAST_WORD, self.say_in_time(socket)).await);
    }

    async fn say_in_time(self, socket: &mut Socket) -> io::Result<()> {
        if let Some(frame) = self.frame {
            socket.queue(binary_message(&[&frame]));
        }
        match self.close {
            Close::With(code, reason) => socket.queue_close(Some(code), reason),
            Close::Answer(code) => {
                socket.queue_close(code, "");
                return socket.flush().await;
            }
            Close::Gone => return Ok(()),
        }
        socket.flush().await?;
        // Reads up to the client's close frame: a connection that ends with unread bytes is reset, and loses the last
        // frames.
        while let Some(heard) = socket.receive().await {
            if let ClientFrame::Close(_) = heard? {
                break;
            }
        }
        Ok(())
    }
}

/// The client's side of a subscription that began.
struct Subscriber {
    cx: Services,
    socket: Socket,
    client: Client,
}

impl Subscriber {
    fn new(cx: Services, socket: Socket) -> Self {
        let client = Client::new(cx.config.streams.socket_ping);
        Self { cx, socket, client }
    }

    /// The task of the socket, for the socket's life.
    #[expect(clippy::manual_async_fn, reason = "an async function would hold its arguments twice")]
    fn run(mut self, mut source: impl Source) -> impl Future<Output = ()> + Send {
        async move {
            let last = self.pump(&mut source).await;
            drop(source);
            last.say(&mut self.socket).await;
        }
    }

    async fn pump(&mut self, source: &mut impl Source) -> Last {
        let Self { cx, socket, client } = self;
        let limits = &cx.config.streams;
        let until = Instant::now() + limits.socket_life.mul_f64(rand::rng().random_range(LIFE_SPREAD));
        let ended = source.ended();
        // Each is registered once for the socket's life, not once for each event.
        let mut stops = Stops { ended: pin!(ended.cancelled()), stopping: pin!(cx.stopping.cancelled()) };
        let mut due = pin!(sleep_until(until.min(client.ping_at)));
        loop {
            let delivery = {
                // One wait for the next event until it is there: frames of the client do not restart it.
                let mut next = pin!(source.next());
                loop {
                    let last = tokio::select! {
                        biased;
                        last = stops.next() => Some(last),
                        () = &mut due => {
                            if Instant::now() >= until {
                                return Last::LIVED;
                            }
                            if !client.pings() {
                                return Last::NOTHING;
                            }
                            due.as_mut().reset(until.min(client.ping_at));
                            socket.queue_ping();
                            stops.sent(limits.send_timeout, socket).await.err()
                        }
                        heard = socket.receive() => match client.said(heard) {
                            Said::Nothing => None,
                            Said::Ping(payload) => {
                                socket.queue_pong(&payload);
                                stops.sent(limits.send_timeout, socket).await.err()
                            }
                            Said::Last(last) => Some(last),
                        },
                        next = &mut next => match next {
                            Ok(delivery) => break delivery,
                            Err(over) => Some(Last::over(over)),
                        },
                    };
                    if let Some(last) = last {
                        return last;
                    }
                }
            };
            let mut queued = queue(socket, &delivery);
            while queued < TOGETHER_BYTES
                && let Some(delivery) = source.next_now()
            {
                queued += queue(socket, &delivery);
            }
            if let Err(last) = stops.sent(limits.send_timeout, socket).await {
                return last;
            }
        }
    }
}

/// Queues an event; its bytes.
fn queue(socket: &mut Socket, delivery: &Delivery) -> usize {
    let message = match delivery {
        Delivery::Stored(frame) => frame.websocket.clone(),
        Delivery::Ephemeral(signal) => binary_message(&[&signal.bytes]),
    };
    let bytes = message.len();
    socket.queue(message);
    bytes
}

/// What ends a socket at any time.
struct Stops<'a, 'token> {
    ended: Pin<&'a mut WaitForCancellationFuture<'token>>,
    stopping: Pin<&'a mut WaitForCancellationFuture<'token>>,
}

impl Stops<'_, '_> {
    async fn next(&mut self) -> Last {
        tokio::select! {
            biased;
            () = &mut self.ended => Last::over(Over::CLOSED),
            () = &mut self.stopping => Last::STOPPING,
        }
    }

    /// Sends the queued frames, while the client takes it and the right to listen lasts.
    async fn sent(&mut self, within: Duration, socket: &mut Socket) -> Result<(), Last> {
        tokio::select! {
            biased;
            sent = timeout(within, socket.flush()) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Last::NOTHING),
            },
            last = self.next() => Err(last),
        }
    }
}

/// The server's state of the client.
struct Client {
    ping_every: Duration,
    ping_at: Instant,
    unanswered: u32,
    /// Control frames that it may still send.
    control_frames: u32,
    granted_at: Instant,
}

/// What follows from a client's frame.
enum Said {
    Nothing,
    /// The client's ping is to be answered.
    Ping(Bytes),
    Last(Last),
}

impl Client {
    fn new(ping_every: Duration) -> Self {
        let now = Instant::now();
        Self { ping_every, ping_at: now + ping_every, unanswered: 0, control_frames: CONTROL_FRAMES, granted_at: now }
    }

    /// Whether the next ping is to be sent: not if the client left too many unanswered.
    fn pings(&mut self) -> bool {
        self.ping_at = Instant::now() + self.ping_every;
        let may = self.unanswered < UNANSWERED_PINGS;
        self.unanswered += 1;
        may
    }

    /// Takes in what the client said.
    fn said(&mut self, heard: Option<io::Result<ClientFrame>>) -> Said {
        match heard {
            Some(Ok(ClientFrame::Pong)) if self.unanswered > 0 => {
                self.unanswered = 0;
                Said::Nothing
            }
            Some(Ok(ClientFrame::Ping(_) | ClientFrame::Pong)) if !self.may_say_more() => {
                Said::Last(Last::refuse("RateLimitExceeded", "a subscriber sends at most one control frame a second"))
            }
            Some(Ok(ClientFrame::Ping(payload))) => Said::Ping(payload),
            Some(Ok(ClientFrame::Pong)) => Said::Nothing,
            Some(Ok(ClientFrame::Close(code))) => Said::Last(Last::answer(code)),
            Some(Err(_)) | None => Said::Last(Last::NOTHING),
            Some(Ok(ClientFrame::Data)) => {
                Said::Last(Last::refuse_by(UNSUPPORTED, "InvalidRequest", "a subscriber sends nothing"))
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
