//! A subscription's socket as it is: every frame, every error, every close code.
//!
//! Invariant: each frame is compared with its lexicon here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Person;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, header};
use ipld_core::ipld::Ipld;
use rookery::lexicon::event::subscribe::Subscribe;
use rookery::lexicon::{Method, schema};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::TestServer;

/// What is expected comes within this time.
const PATIENCE: Duration = Duration::from_secs(10);
/// What comes later than this does not come.
const SILENCE: Duration = Duration::from_millis(400);

#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Event {
        kind: String,
        body: Value,
    },
    Error(String),
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection ended without a word.
    Gone,
}

pub struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// `query` begins with `?` or is empty.
    pub async fn open(server: &TestServer, person: &Person, query: &str) -> Self {
        Self::connect(server, query, Some(person.token(Subscribe::NSID)), None).await
    }

    /// With any token or none; with a window of so many bytes for what was not read yet.
    pub async fn connect(server: &TestServer, query: &str, token: Option<String>, window: Option<u32>) -> Self {
        let token = token.map(|token| (header::AUTHORIZATION, format!("Bearer {token}")));
        Self::dial(server.server().address(), Subscribe::NSID, query, token.as_slice(), window).await
    }

    /// To another replica.
    pub async fn to(replica: SocketAddr, person: &Person, query: &str) -> Self {
        let token = (header::AUTHORIZATION, format!("Bearer {}", person.token(Subscribe::NSID)));
        Self::dial(replica, Subscribe::NSID, query, &[token], None).await
    }

    /// Of any subscription, with these headers.
    pub async fn with(server: &TestServer, nsid: &str, query: &str, headers: &[(HeaderName, String)]) -> Self {
        Self::dial(server.server().address(), nsid, query, headers, None).await
    }

    async fn dial(
        address: SocketAddr,
        nsid: &str,
        query: &str,
        headers: &[(HeaderName, String)],
        window: Option<u32>,
    ) -> Self {
        let tcp = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = window {
            tcp.set_recv_buffer_size(bytes).unwrap();
        }
        let tcp = tcp.connect(address).await.unwrap();
        let url = format!("ws://{address}/xrpc/{nsid}{query}");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        Self(client_async(request, tcp).await.unwrap().0)
    }

    pub async fn send(&mut self, message: Message) {
        self.0.send(message).await.unwrap();
    }

    pub async fn next(&mut self) -> Said {
        tokio::time::timeout(PATIENCE, self.heard()).await.expect("something is said")
    }

    async fn heard(&mut self) -> Said {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(frame))) => return read(&frame),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Said::Closed { code: close.code.into(), reason: close.reason.to_string() };
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Err(_)) | None => return Said::Gone,
                other => panic!("not of this protocol: {other:?}"),
            }
        }
    }

    /// The next event: its kind, and its body as JSON.
    pub async fn event(&mut self) -> (String, Value) {
        match self.next().await {
            Said::Event { kind, body } => (kind, body),
            other => panic!("expected an event: {other:?}"),
        }
    }

    /// Events up to one of this stream with that number; their streams and numbers.
    pub async fn until(&mut self, stream: &str, seq: u64) -> Vec<(String, u64)> {
        let mut heard = Vec::new();
        loop {
            let (_, body) = self.event().await;
            heard.push((body["stream"].as_str().unwrap().to_owned(), body["seq"].as_u64().unwrap()));
            if body["stream"] == stream && body["seq"] == seq {
                return heard;
            }
        }
    }

    /// Passes over events; it ends by this error and this code.
    pub async fn ends(&mut self, error: &str, code: u16) {
        let mut said = self.next().await;
        while let Said::Event { .. } = said {
            said = self.next().await;
        }
        assert_eq!(said, Said::Error(error.to_owned()));
        let reason = error.to_owned();
        assert_eq!(self.next().await, Said::Closed { code, reason });
    }

    pub async fn is_silent(&mut self) {
        let heard = tokio::time::timeout(SILENCE, self.heard()).await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

/// A frame: two DAG-CBOR objects, one after the other.
fn read(frame: &[u8]) -> Said {
    let mut reader = std::io::Cursor::new(frame);
    let header: Ipld = serde_ipld_dagcbor::de::from_reader_once(&mut reader).unwrap();
    let body: Ipld = serde_ipld_dagcbor::from_slice(&frame[usize::try_from(reader.position()).unwrap()..]).unwrap();
    let (header, body) = (to_json(header), to_json(body));
    if header == json!({ "op": -1 }) {
        return Said::Error(body["error"].as_str().unwrap().to_owned());
    }
    assert_eq!(header["op"], 1);
    let kind = header["t"].as_str().unwrap().to_owned();
    schema::message(Subscribe::NSID, &kind, &body).unwrap_or_else(|violation| panic!("{kind}: {violation}"));
    Said::Event { kind, body }
}

fn to_json(value: Ipld) -> Value {
    match value {
        Ipld::Null => Value::Null,
        Ipld::Bool(value) => value.into(),
        Ipld::Integer(value) => i64::try_from(value).unwrap().into(),
        Ipld::String(value) => value.into(),
        Ipld::Bytes(value) => json!({ "$bytes": STANDARD_NO_PAD.encode(value) }),
        Ipld::List(values) => values.into_iter().map(to_json).collect(),
        Ipld::Map(values) => values.into_iter().map(|(name, value)| (name, to_json(value))).collect(),
        Ipld::Float(_) | Ipld::Link(_) => panic!("no event has one"),
    }
}
