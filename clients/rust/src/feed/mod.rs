//! A device's events over a WebSocket, for as long as somebody listens.
//!
//! Invariant: what [`Feed::next`] gives was checked against everything given before, across reconnections: each resumes
//! after the last event, so nothing is missing and nothing comes twice, or it is an error.

mod chains;
mod frame;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, Retryable};
use futures_util::StreamExt;
use rookery_protocol::identity::DeviceSigner;
use rookery_protocol::lexicon::Method;
use rookery_protocol::lexicon::event::defs::Event;
use rookery_protocol::lexicon::event::subscribe::{Cursor as ReadPosition, Info, Params, Subscribe};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::account::Account;
use crate::service::{PATIENCE, Service, before, pauses, query_of, socket_url};
use crate::session::Session;

pub use chains::{Broken, Chains, Link, What};
pub use frame::{Frame, read_frame};

/// Between the end of a connection and the next one.
const AFTER_AN_END: Duration = Duration::from_millis(50);
/// The server pings every 30 s: a socket that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(75);

/// Bytes of the longest cursor.
const CURSOR_BYTES: usize = 512;

/// Where to go on in the events of one server, as that server said. Two cursors have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventCursor(String);

impl EventCursor {
    /// Before everything that the server keeps.
    pub fn oldest() -> Self {
        Self("0".to_owned())
    }

    /// None for a text that no server can have given.
    pub fn parse(text: &str) -> Option<Self> {
        (1..=CURSOR_BYTES).contains(&text.len()).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What came.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// An entry, checked.
    Event(Box<Event>),
    /// Another device of the account read on.
    Read(ReadPosition),
    Info(Info),
    /// An ephemeral event of a kind that this client does not know.
    Unknown(String),
}

#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error("the server ended the subscription: {error}: {message}")]
    Refused { error: String, message: String },
    #[error("a frame is not what the protocol says: {0}")]
    Malformed(String),
    #[error("the server was away for too long: {0}")]
    Away(String),
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// One subscription.
pub struct Feed {
    signer: Arc<DeviceSigner>,
    service: Arc<Service>,
    chains: Chains,
    socket: Option<Socket>,
    /// Connections so far.
    connections: Arc<AtomicU32>,
}

impl Feed {
    /// Nothing is connected before the first `next`. Without a cursor: what happens from now on.
    pub fn new<A: Account>(session: &Session<A>, cursor: Option<EventCursor>) -> Self {
        let chains = Chains::new(session.did().clone(), cursor);
        let (signer, service) = (Arc::clone(&session.signer), Arc::clone(&session.service));
        Self { signer, service, chains, socket: None, connections: Arc::default() }
    }

    pub fn chains(&self) -> &Chains {
        &self.chains
    }

    /// How often it connected, for whoever watches from elsewhere. Each time after the first it resumed.
    pub fn connections(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.connections)
    }

    /// Connects if it is not connected. A caller who subscribes from the present must do this before what it wants to
    /// hear happens.
    pub async fn connect(&mut self) -> Result<(), FeedError> {
        if self.socket.is_none() {
            let until = Instant::now() + PATIENCE;
            let attempt = || connect(&self.signer, &self.service, self.chains.cursor());
            let attempt = attempt
                .retry(pauses())
                .adjust(|_, pause| before(until, pause?))
                .notify(|error: &tungstenite::Error, _| tracing::debug!(%error, "connecting again soon"));
            // Boxed: with TLS it is large, and every future of a caller would hold it.
            self.socket =
                Some(Box::pin(attempt.into_future()).await.map_err(|error| FeedError::Away(error.to_string()))?);
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The next thing that comes. Cancel safe: nothing is lost between frames.
    pub async fn next(&mut self) -> Result<Received, FeedError> {
        let (until, mut pauses) = (Instant::now() + PATIENCE, pauses().build());
        loop {
            self.connect().await?;
            let Some(socket) = &mut self.socket else { continue };
            let message = tokio::time::timeout(SILENCE, socket.next()).await;
            let frame = match message {
                Ok(Some(Ok(Message::Binary(frame)))) => frame,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                // Text is not of this protocol; all else is an end.
                Ok(Some(Ok(Message::Text(_)))) => return Err(FeedError::Malformed("a text message".to_owned())),
                Ok(Some(Ok(Message::Close(_) | Message::Frame(_)) | Err(_)) | None) | Err(_) => {
                    self.socket = None;
                    // Whoever hangs up at once is not asked again at once.
                    tokio::time::sleep(AFTER_AN_END).await;
                    continue;
                }
            };
            match read_frame(&frame)? {
                Frame::Event(event) => {
                    self.chains.extend(&event)?;
                    return Ok(Received::Event(event));
                }
                Frame::Other(received) => return Ok(received),
                Frame::Error { error, message } => {
                    self.socket = None;
                    // The server says whether it is worth coming back.
                    let pause = pauses.next().filter(|_| comes_back(&error));
                    match pause.and_then(|pause| before(until, pause)) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None => return Err(FeedError::Refused { error, message }),
                    }
                }
            }
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({}, {} connections)", self.signer.device, self.connections.load(Ordering::Relaxed))
    }
}

/// Errors after which the same subscription is good again.
fn comes_back(error: &str) -> bool {
    ["ConsumerTooSlow", "Unavailable", "ServiceUnavailable", "JwtTooOld", "TimedOut"].contains(&error)
}

async fn connect(
    signer: &DeviceSigner,
    service: &Service,
    cursor: Option<&EventCursor>,
) -> Result<Socket, tungstenite::Error> {
    let params =
        Params { cursor: cursor.map(|cursor| cursor.as_str().to_owned()), streams: None, kinds: None, ticket: None };
    let path = format!("/xrpc/{}{}", Subscribe::NSID, query_of(&params));
    let url = socket_url(&service.url(), &path).ok_or(tungstenite::error::UrlError::UnsupportedUrlScheme)?;
    let mut request = url.as_str().into_client_request()?;
    let token = signer.token(service.did().as_str(), Subscribe::NSID, service.clock().now(), None);
    let token = http::HeaderValue::from_str(&format!("Bearer {token}"));
    request.headers_mut().insert(http::header::AUTHORIZATION, token.map_err(http::Error::from)?);
    Ok(connect_async(request).await?.0)
}
