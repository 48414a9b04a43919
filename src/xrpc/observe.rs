//! Around every request: its id, its time-out, its one line in the log, its metrics.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, header};
use tracing::Instrument;

use super::limits::From;
use super::{Fault, Services};
use crate::federation::{Federation, INCARNATION};
use crate::telemetry::metric_name;

/// The error name that an answer carries, for the request's line.
#[derive(Clone, Copy)]
pub struct Told(pub &'static str);

/// Whom the request was counted against, as the log may know it: a keyed hash.
#[derive(Clone)]
pub struct Known(pub From);

/// The version of the protocol, on every answer.
static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-protocol-version");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer that knows the route.
pub async fn observe(State(cx): State<Services>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or_else(
        || "unknown".to_owned(),
        |path| path.as_str().trim_start_matches("/xrpc/").trim_end_matches('/').to_owned(),
    );
    let id = hex::encode(rand::random::<[u8; 8]>());
    let span = tracing::info_span!("request", request.id = %id, method = %route);
    let by_peer = Federation::is_signed(request.headers());
    let is_socket = request.headers().contains_key(header::UPGRADE);
    metrics::gauge!(metric_name::HTTP_REQUESTS_OPEN).increment(1);

    let answer = async {
        if is_socket {
            return next.run(request).await;
        }
        match tokio::time::timeout(cx.config.http.request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Fault::TimedOut.into_response(),
        }
    };
    let mut response = answer.instrument(span.clone()).await;
    if by_peer {
        response.headers_mut().insert(&INCARNATION, cx.log.incarnation().into());
    }

    let elapsed = started.elapsed();
    let status = response.status();
    let error = response.extensions().get::<Told>().map_or("", |told| told.0);
    let (caller, address) = match response.extensions().get() {
        Some(Known(From::Account(account))) => (account.as_str(), ""),
        Some(Known(From::Address(address))) => ("", address.as_str()),
        Some(Known(From::Peer(server))) => (server.as_str(), ""),
        None => ("", ""),
    };
    span.in_scope(|| {
        tracing::info!(status = status.as_u16(), error, caller, address, duration_us = elapsed.as_micros(), "answered");
    });
    metrics::gauge!(metric_name::HTTP_REQUESTS_OPEN).decrement(1);
    metrics::counter!(metric_name::HTTP_REQUESTS, "method" => route.clone(), "status" => status.as_str().to_owned())
        .increment(1);
    metrics::histogram!(metric_name::HTTP_REQUEST_SECONDS, "method" => route).record(elapsed.as_secs_f64());

    let headers = response.headers_mut();
    headers.insert(PROTOCOL_VERSION.clone(), HeaderValue::from_static("1"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    response
}
