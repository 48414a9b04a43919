//! Serves one connection of a client.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::conn::auto::upgrade::downcast;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::Limits;
use super::activity::Activity;
use super::patience::Patience;
use crate::telemetry::metric_name;
use crate::xrpc::ClientConnection;
use crate::xrpc::stream::{PendingUpgrade, UpgradedConnection};

/// The most bytes of a request's head, and of a connection's buffer.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;
/// Concurrent requests on one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Silence after which the server pings an HTTP/2 client, and the time in which the client must answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// Time in which an idle HTTP/2 client should close after GOAWAY.
const GOODBYE: Duration = Duration::from_secs(1);

/// The connection after an upgrade, without the layers that spoke HTTP.
async fn upgraded(upgrade: OnUpgrade) -> Option<UpgradedConnection> {
    let parts = downcast::<TokioIo<Patience>>(upgrade.await.ok()?).ok()?;
    Some(UpgradedConnection { transport: Box::new(parts.io.into_inner()), received: parts.read_buf })
}

pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    open: ClientConnection,
    router: Router,
    limits: Limits,
    stopping: CancellationToken,
) {
    // Without Nagle's delay, so that events leave at once. A socket that refuses the option works as well.
    drop(stream.set_nodelay(true));
    let shed = open.shed().clone();
    let activity = Activity::default();
    let requests = activity.clone();
    let io = TokioIo::new(Patience::new(stream, limits, ClientConnection::clone(&open)));
    let service = router.map_request(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(ClientConnection::clone(&open));
        if let Some(upgrade) = request.extensions_mut().remove::<OnUpgrade>() {
            request.extensions_mut().insert(PendingUpgrade::new(upgraded(upgrade)));
        }
        request
    });
    let service = tower::service_fn(move |request: http::Request<Incoming>| {
        let open_request = requests.begin(request.version());
        let answer = service.clone().oneshot(request);
        async move { answer.await.map(|response| open_request.answered(response)) }
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
            // A client that disconnects is not logged.
            _ = served.as_mut() => return,
            () = stopping.cancelled(), if !told => {
                told = true;
                served.as_mut().graceful_shutdown();
            }
            () = shed.cancelled() => {
                metrics::counter!(metric_name::CONNECTIONS_REFUSED, "reason" => "shed").increment(1);
                return;
            }
            // Between two requests of HTTP/1 hyper has a time limit of its own, and `Patience` sees all bytes of the client.
            () = activity.idle_for(limits.header) => {
                served.as_mut().graceful_shutdown();
                drop(tokio::time::timeout(GOODBYE, served.as_mut()).await);
                return;
            }
            () = activity.blocked_for(limits.send) => return,
        }
    }
}
