//! A way to Postgres by TCP whose connections can fall silent: they are neither closed nor reset, as after a failover or
//! behind a firewall that lost its state.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Passes bytes on until it is told to keep them.
pub struct PostgresProxy {
    /// The same database by this way.
    pub url: String,
    /// How often connections fell silent: those that are older than the last time stay so.
    silences: watch::Sender<u64>,
    accepts: Arc<AtomicBool>,
    _serving: AbortOnDropHandle<()>,
}

impl PostgresProxy {
    /// In front of the Postgres that `url` names by the folder of its socket.
    pub async fn before(url: &str) -> Self {
        Self::start(url, false).await
    }

    /// The same, as a pooler that takes no start-up options.
    pub async fn that_drops_options(url: &str) -> Self {
        Self::start(url, true).await
    }

    async fn start(url: &str, drops_options: bool) -> Self {
        let parsed = url::Url::parse(url).unwrap();
        let folder = parsed.query_pairs().find(|(name, _)| name == "host").unwrap().1.into_owned();
        let socket = format!("{folder}/.s.PGSQL.{}", parsed.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("postgres://{}@{address}{}?sslmode=disable", parsed.username(), parsed.path());
        let (silences, silenced) = watch::channel(0);
        let accepts = Arc::new(AtomicBool::new(true));
        let serving = AbortOnDropHandle::new(tokio::spawn(accept(
            listener,
            socket,
            drops_options,
            silenced,
            Arc::clone(&accepts),
        )));
        Self { url, silences, accepts, _serving: serving }
    }

    /// No byte passes on any connection that is open now. New ones work.
    pub fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// New connections are closed at once, or not any more.
    pub fn take_connections(&self, accepts: bool) {
        self.accepts.store(accepts, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    socket: String,
    drops_options: bool,
    silenced: watch::Receiver<u64>,
    accepts: Arc<AtomicBool>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        if accepts.load(Ordering::SeqCst) {
            // A connection that breaks is the other side's business.
            connections.spawn(carry(client, socket.clone(), drops_options, silenced.clone()));
        }
    }
}

async fn carry(
    mut client: TcpStream,
    socket: String,
    drops_options: bool,
    mut silenced: watch::Receiver<u64>,
) -> io::Result<()> {
    silenced.borrow_and_update();
    let mut server = UnixStream::connect(socket).await?;
    if drops_options {
        let length = usize::try_from(client.read_u32().await?).unwrap() - 4;
        let mut message = vec![0; length];
        client.read_exact(&mut message).await?;
        server.write_all(&without_options(&message)).await?;
    }
    tokio::select! {
        ended = copy_bidirectional(&mut client, &mut server) => ended.map(drop),
        _ = silenced.changed() => {
            // Both ends stay open.
            std::future::pending().await
        }
    }
}

/// The first message of a session, which names the version of the protocol and pairs of texts.
fn without_options(message: &[u8]) -> Vec<u8> {
    let (version, texts) = message.split_at(4);
    let texts: Vec<&[u8]> = texts.split(|byte| *byte == 0).collect();
    let mut kept = version.to_vec();
    for pair in texts.chunks(2).take_while(|pair| !pair[0].is_empty()).filter(|pair| pair[0] != b"options") {
        kept.extend([pair[0], &[0], pair[1], &[0]].concat());
    }
    kept.push(0);
    [&u32::try_from(kept.len() + 4).unwrap().to_be_bytes()[..], &kept].concat()
}
