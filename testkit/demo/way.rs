//! The way on which other servers reach a server: the name that it has in public leads here, its own people call it
//! directly. It can be cut, for all who come or for one of them.
//!
//! Invariant: the port is held from the beginning to the end, also while nobody listens on it. It reads the head of a
//! connection's first request, for whoever signed that, and changes nothing.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

const HEAD_BYTES: usize = 64 * 1024;
const BACKLOG: u32 = 256;

pub(crate) struct Way {
    port: u16,
    barred: Arc<Mutex<HashSet<String>>>,
    /// Raised whenever somebody is barred: what is open then is cut.
    cuts: watch::Sender<u64>,
    _listening: AbortOnDropHandle<()>,
}

impl Way {
    /// Leads to that port of this machine, whenever something listens there.
    pub fn to(target: u16) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4().context("finding a free port")?;
        socket.bind(loopback(0)).context("finding a free port")?;
        let listener = socket.listen(BACKLOG).context("listening for other servers")?;
        let (port, barred) = (listener.local_addr()?.port(), Arc::<Mutex<HashSet<String>>>::default());
        let cuts = watch::channel(0).0;
        let listening = tokio::spawn(listen(listener, target, Arc::clone(&barred), cuts.clone()));
        Ok(Self { port, barred, cuts, _listening: AbortOnDropHandle::new(listening) })
    }

    pub fn origin(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub fn did(&self) -> String {
        format!("did:web:localhost%3A{}", self.port)
    }

    /// From now on nothing comes through that this server signed; with None, nothing at all.
    pub fn bar(&self, server: Option<&str>) {
        let server = server.unwrap_or_default().to_owned();
        self.barred.lock().unwrap_or_else(PoisonError::into_inner).insert(server);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub fn mend(&self) {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

async fn listen(listener: TcpListener, target: u16, barred: Arc<Mutex<HashSet<String>>>, cuts: watch::Sender<u64>) {
    while let Ok((caller, _)) = listener.accept().await {
        let (barred, mut cuts) = (Arc::clone(&barred), cuts.subscribe());
        cuts.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                // How a connection ends is for both its ends to judge.
                _ = carry(caller, target, &barred) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

async fn carry(mut caller: TcpStream, target: u16, barred: &Mutex<HashSet<String>>) -> io::Result<()> {
    let head = head(&mut caller).await?;
    let may = |name: &str| !barred.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
    if !may("") || signer(&head).is_some_and(|signer| !may(signer)) {
        return Ok(());
    }
    let mut server = TcpStream::connect(loopback(target)).await?;
    server.write_all(&head).await?;
    tokio::io::copy_bidirectional(&mut caller, &mut server).await.map(drop)
}

/// What came until the end of a head, and whatever came with it.
async fn head(caller: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while head.len() < HEAD_BYTES && !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if caller.read_buf(&mut head).await? == 0 {
            break;
        }
    }
    Ok(head)
}

/// The server of the key that signed the request.
fn signer(head: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"keyid=\"";
    let begin = head.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let name = head[begin..].split(|byte| *byte == b'#').next()?;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(way: &Way, request: &str) -> String {
        let mut caller = TcpStream::connect(loopback(way.port)).await.unwrap();
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A connection that was reset has said nothing either.
        let _ = caller.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn what_somebody_signed_is_barred_or_everything_and_comes_through_again() {
        let server = TcpListener::bind(loopback(0)).await.unwrap();
        let way = Way::to(server.local_addr().unwrap().port()).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut caller, _) = server.accept().await.unwrap();
                let _asked = caller.read(&mut [0; 4096]).await.unwrap();
                caller.write_all(b"here").await.unwrap();
            }
        });
        let signed = |by: &str| format!("GET / HTTP/1.1\r\nSignature-Input: peer=();keyid=\"{by}#peer-x\"\r\n\r\n");
        let (one, other) = (signed("did:web:one"), signed("did:web:other"));
        assert_eq!(said(&way, &one).await, "here");
        way.bar(Some("did:web:one"));
        assert_eq!((said(&way, &one).await.as_str(), said(&way, &other).await.as_str()), ("", "here"));
        way.bar(None);
        assert_eq!(said(&way, &other).await, "");
        way.mend();
        assert_eq!((said(&way, &one).await.as_str(), said(&way, &other).await.as_str()), ("here", "here"));
    }
}
