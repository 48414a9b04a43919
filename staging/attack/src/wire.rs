//! What attackers send and read, byte by byte: HTTP/1 and HTTP/2 as no proper client speaks them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An answer, with its whole body.
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

/// How many answers of which status came.
#[derive(Default)]
pub struct Tally(BTreeMap<u16, usize>);

impl Tally {
    /// None for a call without an answer.
    pub fn add(&mut self, status: Option<u16>) {
        *self.0.entry(status.unwrap_or_default()).or_default() += 1;
    }

    pub fn calls(&self) -> usize {
        self.0.values().sum()
    }

    pub fn merge(&mut self, other: &Self) {
        for (status, count) in &other.0 {
            *self.0.entry(*status).or_default() += count;
        }
    }

    pub fn of(&self, status: u16) -> usize {
        self.0.get(&status).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls", self.calls())?;
        for (status, count) in &self.0 {
            let name = if *status == 0 { "unanswered".to_owned() } else { status.to_string() };
            write!(f, ", {name}: {count}")?;
        }
        Ok(())
    }
}

/// So many workers call one after the other until that moment. `call` gets the worker's number and the call's.
pub async fn swarm<F, A>(workers: u16, until: Instant, call: F) -> Tally
where
    F: Fn(u16, usize) -> A + Clone + Send + 'static,
    A: Future<Output = Option<u16>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut statuses = Vec::new();
            while Instant::now() < until {
                let status = call(worker, statuses.len()).await;
                statuses.push(status);
                if status.is_none() {
                    // A server that takes no connection is not asked in a busy loop.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            statuses
        });
    }
    let mut tally = Tally::default();
    while let Some(statuses) = tasks.join_next().await {
        statuses.unwrap_or_default().into_iter().for_each(|status| tally.add(status));
    }
    tally
}

/// So many calls at the same moment.
pub async fn burst<F, A>(calls: u16, call: F) -> Tally
where
    F: Fn(u16) -> A,
    A: Future<Output = Option<u16>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for number in 0..calls {
        tasks.spawn(call(number));
    }
    let mut tally = Tally::default();
    while let Some(status) = tasks.join_next().await {
        tally.add(status.ok().flatten());
    }
    tally
}

/// The status of a GET on a connection of its own, from the honest client's address.
pub async fn get(url: &str, within: Duration) -> Option<u16> {
    let (host, path) = url.strip_prefix("http://")?.split_once('/')?;
    let asked = async {
        let mut tcp = TcpStream::connect(host).await.ok()?;
        tcp.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .ok()?;
        status(&mut tcp).await
    };
    tokio::time::timeout(within, asked).await.ok().flatten()
}

/// The status line's number.
pub async fn status(tcp: &mut TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    tcp.read_exact(&mut head).await.ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// The head of a POST that announces so many bytes of body.
pub fn post(nsid: &str, token: Option<&str>, length: usize, more: &str) -> Vec<u8> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!(
        "POST /xrpc/{nsid} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{token}{more}content-length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// Sends a byte in each pause until the server closes the connection or that moment comes; whether the server closed it.
pub async fn drip(tcp: &mut TcpStream, pause: Duration, until: Instant) -> bool {
    let mut answer = [0; 1024];
    while Instant::now() < until {
        match tokio::time::timeout(pause, tcp.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_elapsed) => {
                if tcp.write_all(b"x").await.is_err() {
                    return true;
                }
            }
        }
    }
    false
}

/// Waits without a word until the server closes the connection or that moment comes; whether the server closed it.
pub async fn is_closed_by(tcp: &mut TcpStream, until: Instant) -> bool {
    let mut answer = [0; 1024];
    let closed = async { while matches!(tcp.read(&mut answer).await, Ok(1..)) {} };
    tokio::time::timeout_at(until.into(), closed).await.is_ok()
}

/// HTTP/2 (RFC 9113), as far as an attacker needs it.
pub mod http2 {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const HEADERS: u8 = 1;
    const ACK: u8 = 1;
    const END_STREAM_AND_HEADERS: u8 = 5;
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    const WINDOW: u16 = 4;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// A client's first bytes, with a window of so many bytes for each answer.
    pub fn hello(window: u32) -> Vec<u8> {
        let setting = [&WINDOW.to_be_bytes()[..], &window.to_be_bytes()].concat();
        [PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat()
    }

    /// A GET of a path of at most 126 bytes.
    pub fn get(stream: u32, path: &str) -> Vec<u8> {
        let length = u8::try_from(path.len()).unwrap_or_default();
        // Indexed: GET, http. Literal without indexing: the path, and the authority.
        let block = [&[0x82, 0x86, 0x04, length], path.as_bytes(), &[0x01, 1, b'x']].concat();
        frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
    }

    /// Answers pings and settings, as a client that is there and wants nothing, until the server closes the connection.
    pub async fn stay(tcp: &mut TcpStream) {
        let mut head = [0; 9];
        while tcp.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
            if tcp.read_exact(&mut payload).await.is_err() {
                return;
            }
            let answer = match (head[3], head[4] & ACK) {
                (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
                (PING, 0) => frame(PING, ACK, 0, &payload),
                _ => continue,
            };
            if tcp.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
