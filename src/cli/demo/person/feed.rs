//! A person's events over a WebSocket, for as long as somebody listens.
//!
//! Invariant: what [`Feed::next`] gives was checked against everything given before, across reconnections: each resumes
//! after the last event, so nothing is missing and nothing comes twice, or it is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::Person;
use super::chains::{Broken, Chains};
use super::service::{query_of, socket_url};
use crate::lexicon::Method;
use crate::lexicon::event::defs::Event;
use crate::lexicon::event::subscribe::{Cursor as ReadPosition, Info, Message as Fields, Params, Subscribe};
use crate::types::Cursor;

/// How long the server may be away.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pauses between attempts to connect: doubled from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));
/// The server pings every 30 s: a socket that is silent for longer than this is dead.
const SILENCE: Duration = Duration::from_secs(75);

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
    person: Arc<Person>,
    chains: Chains,
    socket: Option<Socket>,
    /// Connections so far.
    connections: Arc<AtomicU32>,
}

impl Feed {
    /// Nothing is connected before the first `next`. `cursor`: 0 for everything kept, None for what happens from now on.
    pub fn new(person: Arc<Person>, cursor: Option<Cursor>) -> Self {
        let chains = Chains::new(person.did().clone(), cursor);
        Self { person, chains, socket: None, connections: Arc::default() }
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
        let until = Instant::now() + PATIENCE;
        let mut pause = PAUSES.0;
        while self.socket.is_none() {
            match connect(&self.person, self.chains.cursor()).await {
                Ok(socket) => {
                    self.socket = Some(socket);
                    self.connections.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if Instant::now() + pause < until => {
                    tracing::debug!(%error, "connecting again soon");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Err(error) => return Err(FeedError::Away(error.to_string())),
            }
        }
        Ok(())
    }

    /// The next thing that comes. Cancel safe: nothing is lost between frames.
    pub async fn next(&mut self) -> Result<Received, FeedError> {
        let (until, mut pause) = (Instant::now() + PATIENCE, PAUSES.0);
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
                    continue;
                }
            };
            match read_frame(&frame)? {
                Frame::Event(event) => {
                    self.chains.extend(&event)?;
                    return Ok(Received::Event(event));
                }
                Frame::Other(received) => return Ok(received),
                // The server says when it is worth coming back.
                Frame::Error { error, .. } if comes_back(&error) && Instant::now() + pause < until => {
                    self.socket = None;
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                Frame::Error { error, message } => {
                    self.socket = None;
                    return Err(FeedError::Refused { error, message });
                }
            }
        }
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Feed({}, {} connections)", self.person.name(), self.connections.load(Ordering::Relaxed))
    }
}

/// Errors after which the same subscription is good again.
fn comes_back(error: &str) -> bool {
    ["ConsumerTooSlow", "Unavailable", "ServiceUnavailable", "JwtTooOld", "TimedOut"].contains(&error)
}

async fn connect(person: &Person, cursor: Option<Cursor>) -> Result<Socket, tungstenite::Error> {
    let params = Params { cursor: cursor.map(|cursor| cursor.to_string()), streams: None, kinds: None, ticket: None };
    let path = format!("/xrpc/{}{}", Subscribe::NSID, query_of(&params));
    let url = socket_url(&person.service().url(), &path).ok_or(tungstenite::error::UrlError::UnsupportedUrlScheme)?;
    let mut request = url.as_str().into_client_request()?;
    let token = http::HeaderValue::from_str(&format!("Bearer {}", person.token(Subscribe::NSID)));
    request.headers_mut().insert(http::header::AUTHORIZATION, token.map_err(http::Error::from)?);
    Ok(connect_async(request).await?.0)
}

/// One binary message.
#[derive(Debug)]
pub enum Frame {
    Event(Box<Event>),
    Other(Received),
    Error { error: String, message: String },
}

#[derive(Deserialize)]
struct FrameHeader {
    op: i8,
    #[serde(default)]
    t: Option<String>,
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    message: String,
}

/// Two DAG-CBOR objects, one after the other, and nothing behind them.
pub fn read_frame(frame: &[u8]) -> Result<Frame, FeedError> {
    let malformed = |error: &dyn std::fmt::Display| FeedError::Malformed(error.to_string());
    let mut reader = std::io::Cursor::new(frame);
    let header: FrameHeader =
        serde_ipld_dagcbor::de::from_reader_once(&mut reader).map_err(|error| malformed(&error))?;
    let at = usize::try_from(reader.position()).unwrap_or(frame.len());
    let body = frame.get(at..).unwrap_or_default();
    match (header.op, header.t.as_deref()) {
        (-1, None) => {
            let ErrorBody { error, message } =
                serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Error { error, message })
        }
        (1, Some("#cursor")) => {
            let read = serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Other(Received::Read(read)))
        }
        (1, Some("#info")) => {
            let info = serde_ipld_dagcbor::from_slice(body).map_err(|error| malformed(&error))?;
            Ok(Frame::Other(Received::Info(info)))
        }
        (1, Some(kind)) => match serde_ipld_dagcbor::from_slice::<Fields>(body) {
            Ok(fields) => Ok(Frame::Event(Box::new(event(kind, fields)))),
            // Every stored kind has these fields, so it is not stored, and may be ignored.
            Err(_) if crate::log::EntryKind::from_name(kind).is_none() => {
                Ok(Frame::Other(Received::Unknown(kind.to_owned())))
            }
            Err(error) => Err(malformed(&error)),
        },
        (op, _) => Err(FeedError::Malformed(format!("op {op}"))),
    }
}

/// All stored events have the fields of `#message`; the kind stands in the frame's header.
fn event(kind: &str, fields: Fields) -> Event {
    let Fields { stream, term, seq, hash, time, header, body, salt, author, device, epoch, cursor } = fields;
    let kind = kind.to_owned();
    Event { stream, term, seq, kind, hash, time, header, body, salt, author, device, epoch, cursor }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xrpc::stream::{error_frame, info};

    #[test]
    fn frames_of_the_server_are_read_as_what_they_are() {
        match read_frame(&error_frame("FutureCursor", "no")).unwrap() {
            Frame::Error { error, message } => assert_eq!((error.as_str(), message.as_str()), ("FutureCursor", "no")),
            other => panic!("{other:?}"),
        }
        match read_frame(&info("OutdatedCursor", "old").unwrap().bytes).unwrap() {
            Frame::Other(Received::Info(info)) => assert_eq!(info.name, "OutdatedCursor"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_with_something_behind_it_or_of_another_form_is_refused() {
        let mut frame = error_frame("FutureCursor", "no").to_vec();
        frame.push(0);
        assert!(read_frame(&frame).is_err());
        assert!(read_frame(b"").is_err());
        assert!(read_frame(&[0xa1, 0x62, b'o', b'p', 0x05, 0xa0]).is_err());
        // A stored kind whose body lacks its fields.
        let mut frame = serde_ipld_dagcbor::to_vec(&serde_json::json!({ "op": 1, "t": "#message" })).unwrap();
        frame.push(0xa0);
        assert!(read_frame(&frame).is_err());
    }
}
