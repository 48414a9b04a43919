//! The ceiling of `sendMessage`: an HTTP handler that verifies one device token, reads the body and submits the ciphertext
//! to a batched insert. The ceiling knows no accounts, conversations or rights, and detects no repeats.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::post;
use clap::Args;
use rookery::identity::{Curve, PublicKey};
use rookery::lexicon::Method;
use rookery::lexicon::mls::send_message::{Input, SendMessage};
use rookery_client::Service;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// As many as the server's log writes at one time.
const BATCH: usize = 512;
const READY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long)]
    database: String,
    #[arg(long)]
    port: u16,
    /// A JSON object: the public key of each device, in hexadecimal.
    #[arg(long)]
    keys: PathBuf,
}

struct Message {
    stream: String,
    ciphertext: Vec<u8>,
    written: oneshot::Sender<()>,
}

struct Bare {
    keys: HashMap<String, PublicKey>,
    queue: mpsc::Sender<Message>,
}

pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let keys: HashMap<String, String> = serde_json::from_slice(&std::fs::read(&arguments.keys)?)?;
    let keys = keys
        .into_iter()
        .map(|(device, key)| Ok((device, PublicKey::from_raw(Curve::Ed25519, &hex::decode(key)?)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut connection = PgConnection::connect(&arguments.database).await?;
    connection
        .execute(
            "create table bare (
                 id bigint generated always as identity primary key, stream text not null, ciphertext bytea not null
             )",
        )
        .await?;
    let (queue, messages) = mpsc::channel(BATCH * 4);
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    let path = format!("/xrpc/{}", SendMessage::NSID);
    let router = Router::new().route(&path, post(take)).with_state(Arc::new(Bare { keys, queue }));
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.context("serving"),
        written = write(connection, messages) => written,
    }
}

async fn take(State(bare): State<Arc<Bare>>, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    match accept(&bare, &headers, &body).await {
        Some(()) => (StatusCode::OK, axum::Json(json!({ "term": 1, "seq": 1, "hash": { "$bytes": "AAAA" } }))),
        None => (StatusCode::UNAUTHORIZED, axum::Json(json!({ "error": "Refused", "message": "refused" }))),
    }
}

async fn accept(bare: &Bare, headers: &HeaderMap, body: &[u8]) -> Option<()> {
    let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let token = rookery::identity::jws::Jws::parse(bearer).ok()?;
    token.verify(bare.keys.get(token.header.kid.as_deref()?)?).ok()?;
    let Input { stream, ciphertext, .. } = serde_json::from_slice(body).ok()?;
    let (written, answer) = oneshot::channel();
    bare.queue.send(Message { stream, ciphertext: ciphertext.0, written }).await.ok()?;
    answer.await.ok()
}

async fn write(mut connection: PgConnection, mut messages: mpsc::Receiver<Message>) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        let (mut streams, mut ciphertexts, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for Message { stream, ciphertext, written } in batch.drain(..) {
            streams.push(stream);
            ciphertexts.push(ciphertext);
            waiting.push(written);
        }
        sqlx::query("insert into bare (stream, ciphertext) select * from unnest($1::text[], $2::bytea[])")
            .bind(&streams)
            .bind(&ciphertexts)
            .execute(&mut connection)
            .await?;
        for written in waiting {
            // A client that gave up does not wait any more.
            let _gone = written.send(());
        }
    }
    Ok(())
}

/// A process of this program that serves the ceiling.
pub struct Ceiling {
    child: Child,
    pub service: Arc<Service>,
}

impl Ceiling {
    /// Starts the process for these devices, and waits until it listens.
    pub async fn start(
        database: &str,
        folder: &Path,
        server: &Service,
        keys: &HashMap<String, String>,
    ) -> anyhow::Result<Self> {
        let file = folder.join("keys.json");
        std::fs::write(&file, serde_json::to_vec(keys)?)?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = Command::new(std::env::current_exe()?)
            .args(["bare", "--database", database, "--port", &port.to_string(), "--keys"])
            .arg(&file)
            .kill_on_drop(true)
            .spawn()
            .context("starting the ceiling")?;
        let until = tokio::time::Instant::now() + READY;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            anyhow::ensure!(tokio::time::Instant::now() < until, "the ceiling does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let service = Service::new(&format!("http://127.0.0.1:{port}"), server.did().clone())?;
        Ok(Self { child, service: Arc::new(service.with_patience(Duration::ZERO)) })
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("ending the ceiling")
    }
}
