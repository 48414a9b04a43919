//! WebSockets of subscriptions from many source addresses, with small buffers: one process holds thousands.
//!
//! Invariant: a socket gives only events that continue its chains: nothing is missing, and nothing comes twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::SinkExt;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use rookery::lexicon::Method;
use rookery::lexicon::event::defs::Event;
use rookery::lexicon::event::subscribe::Subscribe;
use rookery_client::{Chains, EventCursor, Frame, read_frame};
use rookery_testkit::Person;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// Sockets that one device may open.
pub const SOCKETS_PER_DEVICE: usize = 5;
/// Sockets that one source address opens: fewer than the server's limit for each address.
const SOCKETS_PER_ADDRESS: usize = 900;
/// How long the server gets after the opening or the end of sockets until its memory and its workers are settled.
pub const SETTLES: Duration = Duration::from_secs(3);
/// Sockets that are opened at one time where the opening is not what a scenario measures.
const OPENING: usize = 32;
/// Bytes of the buffers of each socket, in each direction.
const BUFFER_BYTES: usize = 4096;
/// A refused socket says so within this time.
const OPENS_WITHIN: Duration = Duration::from_secs(10);

/// A device's socket.
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    chains: Chains,
}

/// How a socket is opened.
#[derive(Clone, Default)]
pub struct Opening {
    /// Number of the socket in its scenario: it decides the source address.
    pub number: usize,
    /// The socket continues after this cursor; without one, from the present on.
    pub cursor: Option<EventCursor>,
    /// Bytes of the kernel's receive buffer, where not the system's own choice.
    pub window: Option<u32>,
}

impl Socket {
    pub async fn open(person: &Person, opening: Opening) -> anyhow::Result<Self> {
        tokio::time::timeout(OPENS_WITHIN, Self::connect(person, opening))
            .await
            .context("a socket did not open in time")?
    }

    async fn connect(person: &Person, opening: Opening) -> anyhow::Result<Self> {
        let url = person.service().url();
        let address: SocketAddr = url.strip_prefix("http://").context("an origin of another scheme")?.parse()?;
        let tcp = TcpSocket::new_v4()?;
        if let Some(bytes) = opening.window {
            tcp.set_recv_buffer_size(bytes)?;
        }
        tcp.set_nodelay(true)?;
        tcp.bind(SocketAddr::from((source_address(opening.number)?, 0)))?;
        let tcp = tcp.connect(address).await?;
        let cursor = opening.cursor.as_ref().map(|cursor| format!("?cursor={}", cursor.as_str())).unwrap_or_default();
        let mut request = format!("ws://{address}/xrpc/{}{cursor}", Subscribe::NSID).into_client_request()?;
        let token = format!("Bearer {}", person.token(Subscribe::NSID));
        request.headers_mut().insert(AUTHORIZATION, token.parse()?);
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        let (stream, _) = client_async_with_config(request, tcp, Some(config)).await?;
        Ok(Self { stream, chains: Chains::new(person.did().clone(), opening.cursor) })
    }

    /// Waits until the server pumps events into the socket: then the server answers a ping. Before, the server may
    /// still authenticate the device.
    async fn is_live(&mut self) -> anyhow::Result<()> {
        self.stream.send(Message::Ping(Bytes::new())).await?;
        loop {
            match self.message().await? {
                Message::Pong(_) => return Ok(()),
                Message::Binary(frame) => drop(self.take(&frame)?),
                _ => {}
            }
        }
    }

    /// The next event. Cancel safe.
    pub async fn event(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Message::Binary(frame) = self.message().await?
                && let Some(event) = self.take(&frame)?
            {
                return Ok(event);
            }
        }
    }

    async fn message(&mut self) -> anyhow::Result<Message> {
        match self.stream.next().await.context("the server ended a socket")?? {
            message @ (Message::Binary(_) | Message::Ping(_) | Message::Pong(_)) => Ok(message),
            other => bail!("a socket received {other:?}"),
        }
    }

    /// The event of a frame, checked; None for a frame without an event.
    fn take(&mut self, frame: &[u8]) -> anyhow::Result<Option<Event>> {
        match read_frame(frame)? {
            Frame::Event(event) => {
                self.chains.extend(&event)?;
                Ok(Some(*event))
            }
            Frame::Other(_) => Ok(None),
            Frame::Error { error, message } => bail!("the server ended a socket: {error}: {message}"),
        }
    }

    /// Reads events up to the entry of that stream and number.
    pub async fn until(&mut self, stream: &str, seq: u64) -> anyhow::Result<()> {
        loop {
            let event = self.event().await?;
            if event.stream == stream && event.seq >= seq {
                ensure!(event.seq == seq, "a socket was given a later event than the expected one");
                return Ok(());
            }
        }
    }

    /// Where to continue: after the last event.
    pub fn cursor(&self) -> Option<&EventCursor> {
        self.chains.cursor()
    }
}

/// An address of loopback: each carries [`SOCKETS_PER_ADDRESS`] sockets.
fn source_address(number: usize) -> anyhow::Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(127, 1, 0, u8::try_from(1 + number / SOCKETS_PER_ADDRESS).context("too many sockets")?))
}

/// The devices of so many sockets, each as often as a device may open sockets.
pub fn devices(people: &[Arc<Person>], sockets: usize) -> impl Iterator<Item = &Arc<Person>> {
    people.iter().flat_map(|person| std::iter::repeat_n(person, SOCKETS_PER_DEVICE)).take(sockets)
}

/// Opens so many sockets of these devices, from the present on, and waits until they are live. `first` is the number of
/// the first socket.
pub async fn open(
    people: &[Arc<Person>],
    sockets: usize,
    first: usize,
    window: Option<u32>,
) -> anyhow::Result<Vec<Socket>> {
    let opening = devices(people, sockets).zip(first..).map(async |(person, number)| {
        let mut socket = Socket::open(person, Opening { number, cursor: None, window }).await?;
        tokio::time::timeout(OPENS_WITHIN, socket.is_live()).await.context("a socket was not live in time")??;
        Ok::<_, anyhow::Error>(socket)
    });
    iter(opening).buffer_unordered(OPENING).try_collect().await.context("opening sockets")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_carries_fewer_sockets_than_its_limit() {
        assert_eq!(source_address(0).unwrap(), source_address(SOCKETS_PER_ADDRESS - 1).unwrap());
        assert_ne!(source_address(0).unwrap(), source_address(SOCKETS_PER_ADDRESS).unwrap());
        assert!(source_address(1_000_000).is_err());
    }
}
