//! The ceiling of `fan-out`: a WebSocket handler of axum that sends a broadcast of as many bytes to as many sockets, at the
//! same pace. The ceiling knows no accounts, seats, filters or cursors, and reads nothing from a database.

use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::get;
use clap::Args;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::usage;

/// Messages that a socket of the ceiling may lag behind.
const BUFFER: usize = 500;
/// Bytes of a socket's buffers: axum fills the read buffer with zeros for each look at the socket, by default 128 KiB.
const BUFFER_BYTES: usize = 4096;
/// Bytes of a delivered message of about 512 bytes of ciphertext.
const DELIVERY_BYTES: usize = 1_000;
const READY: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[arg(long)]
    port: u16,
    /// The first message waits for so many sockets.
    #[arg(long)]
    sockets: usize,
    /// Milliseconds between two messages.
    #[arg(long)]
    pace_ms: u64,
}

pub async fn serve(arguments: Arguments) -> anyhow::Result<()> {
    let (messages, _) = broadcast::channel(BUFFER);
    let listener = TcpListener::bind(("127.0.0.1", arguments.port)).await?;
    let subscribed = messages.clone();
    let handler = move |upgrade: WebSocketUpgrade| {
        let subscription = subscribed.subscribe();
        let upgrade = upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES);
        async move { upgrade.on_upgrade(move |socket| pass_on(socket, subscription)) }
    };
    let router = Router::new().route("/", get(handler));
    let pace = async move {
        let mut pace = tokio::time::interval(Duration::from_millis(arguments.pace_ms));
        let message = Bytes::from(vec![7; DELIVERY_BYTES]);
        loop {
            pace.tick().await;
            if messages.receiver_count() >= arguments.sockets {
                messages.send(message.clone()).context("no socket is open")?;
            }
        }
    };
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.context("serving"),
        ended = pace => ended,
    }
}

async fn pass_on(mut socket: WebSocket, mut messages: broadcast::Receiver<Bytes>) {
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => if socket.send(Message::Binary(message)).await.is_err() {
                    return;
                },
                Err(_) => return,
            },
            heard = socket.recv() => if heard.is_none_or(|heard| heard.is_err()) {
                return;
            },
        }
    }
}

/// The CPU time of the ceiling for each delivery to so many sockets.
pub async fn measure(sockets: usize, pace: Duration, lasts: Duration) -> anyhow::Result<Duration> {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["bare-fan-out", "--port", &port.to_string(), "--sockets", &sockets.to_string()])
        .args(["--pace-ms", &pace.as_millis().to_string()])
        .kill_on_drop(true)
        .spawn()
        .context("starting the ceiling")?;
    let used = measure_process(&child, port, sockets, lasts).await;
    child.kill().await.context("ending the ceiling")?;
    used
}

async fn measure_process(child: &Child, port: u16, sockets: usize, lasts: Duration) -> anyhow::Result<Duration> {
    let pid = child.id().context("the ceiling has no process")?;
    let ready = Instant::now() + READY;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        anyhow::ensure!(Instant::now() < ready, "the ceiling does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut feeds = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        feeds.push(tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{port}/")).await?.0);
    }
    let (before, until) = (usage::of_process(pid)?, Instant::now() + lasts);
    let mut readers = JoinSet::new();
    for mut feed in feeds {
        readers.spawn(async move {
            let mut deliveries = 0_u32;
            while let Ok(Some(message)) = tokio::time::timeout_at(until, feed.next()).await {
                message?;
                deliveries += 1;
            }
            Ok::<_, anyhow::Error>(deliveries)
        });
    }
    let mut deliveries = 0;
    while let Some(read) = readers.join_next().await {
        deliveries += read??;
    }
    anyhow::ensure!(deliveries > 0, "the ceiling delivered nothing");
    Ok(usage::of_process(pid)?.saturating_sub(before) / deliveries)
}
