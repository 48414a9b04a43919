//! A wire to Postgres that can stand still: nothing goes through, and nothing breaks.

use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::TestDatabase;

pub struct Stalling {
    pub url: String,
    flows: watch::Sender<bool>,
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
        let (flows, may) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, target.clone(), may.clone()));
            }
        });
        Self { url: url.into(), flows }
    }

    pub fn stand_still(&self) {
        self.flows.send_replace(false);
    }

    pub fn flow(&self) {
        self.flows.send_replace(true);
    }
}

#[derive(Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
}

async fn join(client: TcpStream, target: Target, may: watch::Receiver<bool>) {
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

async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut may: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if may.wait_for(|may| *may).await.is_err() || to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
