//! The listeners: limits on connections, and on the time that a client may take.
//!
//! Invariants: the server closes a connection that does not finish the head of a request, is idle between two, or does
//! not read its answer, within the configured time, in every version of HTTP and also after an upgrade; it keeps
//! nothing of a request before its head is complete, and a head has a limit of bytes; connections are fewer than the
//! files that the process may open, and one address may have only a part of them.

mod activity;
mod bind;
mod connection;
mod open_files;
mod patience;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(super) use bind::bind;
pub(super) use open_files::{connections_within, raise_open_files};

use crate::limit::{ConnectionRefused, ConnectionRoster};
use crate::telemetry::metric_name;
use crate::xrpc::Address;

/// Pause when the machine gives out no more sockets.
const TROUBLE: Duration = Duration::from_millis(250);

/// Limits on the time that a client may take, and on connections.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Time for the head of a request, and between two requests.
    pub header: Duration,
    /// For a client that takes nothing.
    pub send: Duration,
    /// Connections of all clients, and of one address.
    pub connections: usize,
    pub connections_per_address: usize,
}

/// A listener.
pub(super) struct Listening {
    pub listener: TcpListener,
    pub router: Router,
    pub limits: Limits,
    /// Addresses of trusted proxies, which stand for many clients and have no limit of their own.
    pub proxies: Vec<IpNet>,
}

/// Serves until `stopping`, then lets open requests end. Dropping it cuts them off.
pub(super) async fn serve(listening: Listening, stopping: CancellationToken) {
    let Listening { listener, router, limits, proxies } = listening;
    let roster = Arc::new(ConnectionRoster::new(limits.connections, limits.connections_per_address));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let address = peer.ip().to_canonical();
                    let is_proxy = proxies.iter().any(|range| range.contains(&address));
                    let key = (!is_proxy).then(|| Address::of(address));
                    match roster.admit(key) {
                        Ok(open) => {
                            let served =
                                connection::serve(stream, peer, open, router.clone(), limits, stopping.clone());
                            connections.spawn(served);
                        }
                        Err(refused) => {
                            let reason = match refused {
                                ConnectionRefused::Full => "full",
                                ConnectionRefused::KeyFull => "address",
                            };
                            metrics::counter!(metric_name::CONNECTIONS_REFUSED, "reason" => reason).increment(1);
                        }
                    }
                    #[expect(clippy::cast_precision_loss, reason = "a number of connections")]
                    metrics::gauge!(metric_name::CONNECTIONS_OPEN).set(roster.open() as f64);
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
