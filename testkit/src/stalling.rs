//! A wire to Postgres that can stand still or be slow: nothing goes through, or goes later, and nothing breaks.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::TestDatabase;

pub struct Stalling {
    pub url: String,
    flows: watch::Sender<Flow>,
}

/// How bytes pass.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    Still,
    /// Each piece after a pause.
    After(Duration),
}

impl Stalling {
    pub async fn before(database: &TestDatabase) -> Self {
        let mut url = url::Url::parse(&database.url).unwrap();
        let socket = url.query_pairs().find(|(name, _)| name == "host").map(|(_, folder)| folder.into_owned());
        let port = url.port().unwrap_or(5432);
        let target = match &socket {
            Some(folder) => Target::Unix(PathBuf::from(folder).join(format!(".s.PGSQL.{port}"))),
            None => Target::Tcp(format!("{}:{port}", url.host_str().unwrap())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_query(None);
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (flows, may) = watch::channel(Flow::After(Duration::ZERO));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, target.clone(), may.clone()));
            }
        });
        Self { url: url.into(), flows }
    }

    pub fn stand_still(&self) {
        self.flows.send_replace(Flow::Still);
    }

    pub fn flow(&self) {
        self.flows.send_replace(Flow::After(Duration::ZERO));
    }
}

impl Stalling {
    /// From now on each piece passes after this pause.
    pub fn slow(&self, pause: Duration) {
        self.flows.send_replace(Flow::After(pause));
    }
}

#[derive(Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
}

async fn join(client: TcpStream, target: Target, may: watch::Receiver<Flow>) {
    let (from_client, to_client) = client.into_split();
    match target {
        Target::Unix(path) => {
            let (from_server, to_server) = UnixStream::connect(path).await.unwrap().into_split();
            tokio::join!(carry(from_client, to_server, may.clone()), carry(from_server, to_client, may));
        }
        Target::Tcp(address) => {
            let (from_server, to_server) = TcpStream::connect(address).await.unwrap().into_split();
            tokio::join!(carry(from_client, to_server, may.clone()), carry(from_server, to_client, may));
        }
    }
}

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut may: watch::Receiver<Flow>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let Ok(flow) = may.wait_for(|flow| *flow != Flow::Still).await.map(|flow| *flow) else { break };
        if let Flow::After(pause) = flow
            && !pause.is_zero()
        {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
