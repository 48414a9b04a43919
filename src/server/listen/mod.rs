//! The listener of the API: what a client may take its time with, and what not.
//!
//! Invariants: a connection that does not finish the head of a request, or does not take its answer, is closed in the
//! configured time, whatever it was upgraded to; nothing of a request is kept before its head is whole, and a head has
//! its greatest size.

mod patience;

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::patience::Patience;

/// Bytes of a request's head, and of what is buffered of a connection.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// Requests at one time on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// An HTTP/2 client that says nothing is asked whether it is still there, and gets this long to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// Pause when the machine gives out no more sockets.
const TROUBLE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// For the head of a request.
    pub header: Duration,
    /// For a client that takes nothing.
    pub send: Duration,
}

/// Serves until `stopping`, then lets open requests end. Dropping it cuts them off.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits, stopping: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, router.clone(), limits, stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a connection could not be accepted");
                    tokio::time::sleep(TROUBLE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, limits: Limits, stopping: CancellationToken) {
    // An event is sent as soon as it is written. A socket that refuses is as good as any.
    drop(stream.set_nodelay(true));
    let io = TokioIo::new(Patience::new(stream, limits));
    let service = router.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(HEAD_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN);
    let mut served = pin!(builder.serve_connection_with_upgrades(io, TowerToHyperService::new(service)));
    let mut told = false;
    loop {
        tokio::select! {
            // A client that broke off is no event.
            _ = served.as_mut() => return,
            () = stopping.cancelled(), if !told => {
                told = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}
