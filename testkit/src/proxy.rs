//! A name in front of a server, where requests get lost, late, cut off, doubled, or out of order.
//!
//! Invariant: what happens to a request follows from the seed and from how many came before it. What nothing happens to
//! goes through byte for byte, but that each connection carries one request. Only XRPC calls have accidents: how a name
//! is looked up is another matter, which `refuse` and `ban` are for.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How late a late request is at most, and a doubled one comes again.
const LATE_MS: u64 = 300;
/// How long a request waits for another to overtake it.
const OVERTAKEN: Duration = Duration::from_millis(400);
const HEAD_BYTES: usize = 64 * 1024;

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Through,
    /// It never arrives.
    Lost,
    /// It arrives, and its answer does not.
    Unanswered,
    Late,
    /// Half of it arrives.
    CutRequest,
    /// It arrives, and half of its answer comes back.
    CutAnswer,
    /// It arrives again after it was answered.
    Doubled,
    /// Another one goes first.
    Behind,
}

impl Fate {
    pub const ACCIDENTS: [Self; 7] =
        [Self::Lost, Self::Unanswered, Self::Late, Self::CutRequest, Self::CutAnswer, Self::Doubled, Self::Behind];
}

/// How many of a hundred requests have which accident.
#[derive(Clone, Debug, Default)]
pub struct Faults(Vec<(Fate, u32)>);

impl Faults {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn always(fate: Fate) -> Self {
        Self(vec![(fate, 100)])
    }

    /// Each accident to so many of a hundred.
    pub fn each(percent: u32) -> Self {
        Self(Fate::ACCIDENTS.iter().map(|fate| (*fate, percent)).collect())
    }

    /// The same two numbers are drawn for every request, whatever happens to it.
    fn draw(&self, chance: &mut StdRng) -> (Fate, Duration) {
        let (mut dice, late_ms) = (chance.random_range(0..100), chance.random_range(1..=LATE_MS));
        for (fate, percent) in &self.0 {
            if dice < *percent {
                return (*fate, Duration::from_millis(late_ms));
            }
            dice -= percent;
        }
        (Fate::Through, Duration::from_millis(late_ms))
    }
}

/// A request that came, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// With its query.
    pub path: String,
    /// The server that signed it.
    pub by: Option<String>,
    pub fate: Fate,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    open: watch::Sender<bool>,
    is_open: watch::Receiver<bool>,
    _serving: AbortOnDropHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Requests that have been carried.
    carried: watch::Sender<usize>,
}

struct State {
    target: Option<SocketAddr>,
    faults: Faults,
    chance: StdRng,
    banned: HashSet<String>,
    seen: Vec<Seen>,
}

impl Proxy {
    /// Listens on a port of its own, which nobody else gets while it lives; the server may come later.
    pub fn reserve(seed: u64) -> Self {
        let listener = bound(0).unwrap().listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State {
            target: None,
            faults: Faults::none(),
            chance: StdRng::seed_from_u64(seed),
            banned: HashSet::new(),
            seen: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), carried: watch::channel(0).0 });
        let ((open, may), (opened, is_open)) = (watch::channel(true), watch::channel(true));
        let serving = AbortOnDropHandle::new(tokio::spawn(accept(listener, port, Arc::clone(&shared), may, opened)));
        Self { port, shared, open, is_open, _serving: serving }
    }

    /// The origin that others know the server by.
    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// The name that goes with it.
    pub fn did(&self) -> String {
        format!("did:web:localhost%3A{}", self.port)
    }

    /// Where the server is.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state(|state| state.target = Some(target));
    }

    /// From now on.
    pub fn suffer(&self, faults: Faults) {
        self.state(|state| state.faults = faults);
    }

    /// From now on nothing that this server signed arrives.
    pub fn ban(&self, server: &str) {
        self.state(|state| state.banned.insert(server.to_owned()));
    }

    pub fn admit_all(&self) {
        self.state(|state| state.banned.clear());
    }

    /// From now on connections are refused, as where no program listens.
    pub async fn refuse(&self) {
        self.turn(false).await;
    }

    pub async fn listen(&self) {
        self.turn(true).await;
    }

    async fn turn(&self, open: bool) {
        self.open.send_replace(open);
        self.is_open.clone().wait_for(|is| *is == open).await.unwrap();
    }

    /// All that came, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state(|state| state.seen.clone())
    }

    fn state<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.shared.state.lock().unwrap())
    }
}

/// A port that nobody else gets; who connects to it is refused until somebody listens.
fn bound(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

async fn accept(
    first: TcpListener,
    port: u16,
    shared: Arc<Shared>,
    mut may: watch::Receiver<bool>,
    open: watch::Sender<bool>,
) {
    let mut listener = Some(first);
    loop {
        if let Some(listening) = &listener {
            tokio::select! {
                Ok((client, _)) = listening.accept() => {
                    let shared = Arc::clone(&shared);
                    // A connection that breaks is the other side's business.
                    tokio::spawn(async move { serve(client, &shared).await.ok() });
                }
                changed = may.changed() => if changed.is_err() { return },
            }
        }
        let wanted = *may.borrow_and_update();
        if wanted != listener.is_some() {
            drop(listener.take());
            let socket = bound(port).unwrap();
            if wanted {
                listener = Some(socket.listen(1024).unwrap());
                open.send_replace(true);
            } else {
                open.send_replace(false);
                // Held without listening: nobody else gets the port.
                let until = may.wait_for(|may| *may).await.is_ok();
                drop(socket);
                if !until {
                    return;
                }
            }
        } else if listener.is_none() && may.changed().await.is_err() {
            return;
        }
    }
}

async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    let (fate, pause, target) = shared.judge(&request);
    let Some(target) = target else { return Ok(()) };
    if request.upgrades {
        let mut server = TcpStream::connect(target).await?;
        server.write_all(&request.bytes).await?;
        return tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    let whole = request.bytes.as_slice();
    match fate {
        Fate::Lost => return Ok(()),
        Fate::Late => tokio::time::sleep(pause).await,
        Fate::Behind => {
            let (before, mut carried) = (*shared.carried.borrow(), shared.carried.subscribe());
            // Nobody may come: then it goes on by itself.
            let _ = tokio::time::timeout(OVERTAKEN, carried.wait_for(|now| *now > before)).await;
        }
        Fate::CutRequest => {
            let mut server = TcpStream::connect(target).await?;
            server.write_all(&whole[..request.middle]).await?;
            return server.shutdown().await;
        }
        Fate::Through | Fate::Unanswered | Fate::CutAnswer | Fate::Doubled => {}
    }
    let answer = exchange(target, whole).await?;
    shared.carried.send_modify(|carried| *carried += 1);
    match fate {
        Fate::Unanswered => return Ok(()),
        Fate::CutAnswer => client.write_all(&answer[..answer.len() / 2]).await?,
        _ => client.write_all(&answer).await?,
    }
    client.shutdown().await?;
    if fate == Fate::Doubled {
        tokio::time::sleep(pause).await;
        exchange(target, whole).await?;
    }
    Ok(())
}

/// One request on a connection of its own, and all that came back.
async fn exchange(target: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(target).await?;
    server.write_all(request).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

impl Shared {
    fn judge(&self, request: &Request) -> (Fate, Duration, Option<SocketAddr>) {
        let mut state = self.state.lock().unwrap();
        let State { faults, chance, .. } = &mut *state;
        let (mut fate, pause) =
            if request.path.starts_with("/xrpc/") { faults.draw(chance) } else { (Fate::Through, Duration::ZERO) };
        if request.by.as_ref().is_some_and(|by| state.banned.contains(by)) {
            fate = Fate::Lost;
        }
        state.seen.push(Seen { path: request.path.clone(), by: request.by.clone(), fate });
        (fate, pause, state.target)
    }
}

struct Request {
    path: String,
    by: Option<String>,
    upgrades: bool,
    /// As it is sent on.
    bytes: Vec<u8>,
    /// In the middle of the body, or of the head if there is none.
    middle: usize,
}

impl Request {
    /// None if the connection was closed before one came.
    async fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        let head_ends = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if bytes.len() > HEAD_BYTES || client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let head = String::from_utf8_lossy(&bytes[..head_ends]).into_owned();
        let header = |name: &str| {
            head.lines()
                .skip(1)
                .filter_map(|line| line.split_once(':'))
                .find_map(|(given, value)| given.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
        };
        assert!(header("transfer-encoding").is_none(), "no client of ours sends a body of unknown length");
        let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
        while bytes.len() < head_ends + length {
            if client.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let signed = header("signature-input").unwrap_or_default();
        let by = signed.split_once("keyid=\"").and_then(|(_, rest)| rest.split_once('#')).map(|(by, _)| by.to_owned());
        let upgrades = header("upgrade").is_some();
        if upgrades {
            return Ok(Some(Self { path, by, upgrades, bytes, middle: 0 }));
        }
        let kept = head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let mut sent: Vec<u8> = kept.flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
        sent.extend_from_slice(b"connection: close\r\n\r\n");
        let middle = if length > 1 { sent.len() + length / 2 } else { sent.len() / 2 };
        sent.extend_from_slice(&bytes[head_ends..head_ends + length]);
        Ok(Some(Self { path, by, upgrades, bytes: sent, middle }))
    }
}
