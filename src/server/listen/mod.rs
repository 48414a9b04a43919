//! The listeners: how many clients may be connected, what a client may take its time with, and what not.
//!
//! Invariants: a connection that does not finish the head of a request, is idle between two, or does not take its answer
//! is closed in the configured time, in every version of HTTP and whatever it was upgraded to; nothing of a request is
//! kept before its head is whole, and a head has its greatest size; connections are fewer than the files that the process
//! may open, and one address has a part of them.

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

/// What a client may take its time with.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// For the head of a request, and between two.
    pub header: Duration,
    /// For a client that takes nothing.
    pub send: Duration,
    /// Connections in all, and of one address.
    pub connections: usize,
    pub connections_per_address: usize,
}

/// One listener.
pub(super) struct Listening {
    pub listener: TcpListener,
    pub router: Router,
    pub limits: Limits,
    /// Addresses that have no limit of their own: they stand for many clients.
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
