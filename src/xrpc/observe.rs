//! Around every request: its id, its time-out, its one line in the log, its metrics.
//!
//! Invariants: every request ends by the time-out, whatever its headers (a subscription answers its upgrade at once and
//! goes on outside of the request); a request whose client disconnects has its log line and its metrics too.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue};
use tracing::{Instrument, Span};

use super::limits::From;
use super::{Fault, Services};
use crate::federation::{Federation, INCARNATION};
use crate::telemetry::metric_name;

/// The error name that an answer carries, for the request's line.
#[derive(Clone, Copy)]
pub struct Told(pub &'static str);

/// The account or address that the request counted against, as a keyed hash.
#[derive(Clone)]
pub struct Known(pub From);

/// The version of the protocol, on every answer.
static PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-protocol-version");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The label in place of a status where the client disconnected before the answer.
const ABANDONED: &str = "abandoned";

/// The outermost layer that knows the route.
pub async fn observe(State(cx): State<Services>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or_else(
        || "unknown".to_owned(),
        |path| path.as_str().trim_start_matches("/xrpc/").trim_end_matches('/').to_owned(),
    );
    let id = hex::encode(rand::random::<[u8; 8]>());
    let span = tracing::info_span!("request", request.id = %id, method = %route);
    let by_peer = Federation::is_signed(request.headers());
    let open = OpenRequest::begin(route, span.clone());

    let answer = async {
        match tokio::time::timeout(cx.config.http.request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Fault::TimedOut.into_response(),
        }
    };
    let mut response = answer.instrument(span).await;
    open.answered(&response);

    if by_peer {
        response.headers_mut().insert(&INCARNATION, cx.log.incarnation().into());
    }
    let headers = response.headers_mut();
    headers.insert(PROTOCOL_VERSION.clone(), HeaderValue::from_static("1"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID.clone(), id);
    }
    response
}

/// A request without an answer yet. Dropped without an answer, the request was abandoned: its client disconnected.
struct OpenRequest {
    route: String,
    span: Span,
    started: Instant,
    answered: bool,
}

impl OpenRequest {
    fn begin(route: String, span: Span) -> Self {
        metrics::gauge!(metric_name::HTTP_REQUESTS_OPEN).increment(1);
        Self { route, span, started: Instant::now(), answered: false }
    }

    fn answered(mut self, response: &Response) {
        self.answered = true;
        let (status, duration_us) = (response.status(), self.started.elapsed().as_micros());
        let error = response.extensions().get::<Told>().map_or("", |told| told.0);
        let (caller, address) = match response.extensions().get() {
            Some(Known(From::Account(account))) => (account.as_str(), ""),
            Some(Known(From::Address(address))) => ("", address.as_str()),
            Some(Known(From::Peer(server))) => (server.as_str(), ""),
            None => ("", ""),
        };
        self.span.in_scope(|| {
            tracing::info!(status = status.as_u16(), error, caller, address, duration_us, "answered");
        });
        self.count(status.as_str().to_owned());
    }

    fn count(&self, status: String) {
        metrics::counter!(metric_name::HTTP_REQUESTS, "method" => self.route.clone(), "status" => status).increment(1);
        let seconds = self.started.elapsed().as_secs_f64();
        metrics::histogram!(metric_name::HTTP_REQUEST_SECONDS, "method" => self.route.clone()).record(seconds);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        metrics::gauge!(metric_name::HTTP_REQUESTS_OPEN).decrement(1);
        if !self.answered {
            let duration_us = self.started.elapsed().as_micros();
            self.span.in_scope(|| tracing::info!(error = ABANDONED, duration_us, "abandoned"));
            self.count(ABANDONED.to_owned());
        }
    }
}
