//! Everything that is served, and the layers around all of it.
//!
//! Invariant: a route exists by a row here or a method of `api`; what is listed as served is what is mounted, and the law
//! of routes (tests/it/laws/routes.rs) walks that list.

use std::time::Duration;

use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router, middleware};
use http::{HeaderName, Method, StatusCode, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use super::{health, home_page};
use crate::api;
use crate::identity::server_document;
use crate::xrpc::{Api, Doors, Fault, Services, around, fallback, observe};

/// How long a browser may remember that it may ask.
const CORS_MAX_AGE: Duration = Duration::from_hours(24);

/// The answer's headers that a browser's script may read.
const EXPOSED: [HeaderName; 8] = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("x-protocol-version"),
    HeaderName::from_static("x-request-id"),
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];

/// The whole server as one service, and the paths that it serves.
pub(super) struct Served {
    pub router: Router,
    pub paths: Vec<String>,
}

/// Layers sit on the router, so no route can be without them.
pub(super) fn serve(services: &Services) -> Served {
    let origin = services.config.identity.public_url.origin().ascii_serialization();
    let document = server_document(services.log.home(), &origin, &services.keys);
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        // Allows every header that a browser requests, as a PDS does: no header of a request grants anything by itself.
        // A wildcard would leave out `authorization` (Fetch standard, CORS protocol).
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED)
        .max_age(CORS_MAX_AGE);
    let serves_calls = services.config.role.serves_calls();
    let mut methods = if serves_calls { api::api() } else { Api::default() };
    if serves_calls && !services.config.identity.operators.is_empty() {
        methods = methods.merge(api::admin::api());
    }
    let rules = methods.rules();
    let probes = health::routes();
    let doors = Doors::new(services, &rules, &probes.each_ref().map(|(path, _)| *path));
    let documents =
        [("/.well-known/did.json", get(move || async move { Json(document) })), ("/", get(home_page::home_page))];
    let mut paths: Vec<String> = rules.iter().map(|rule| format!("/xrpc/{}", rule.nsid)).collect();
    let mut router = if serves_calls { methods.router() } else { Router::new() };
    let served = documents.into_iter();
    #[cfg(feature = "next-version")]
    let served = served.chain(super::next_version::routes(services));
    let served = served.filter(|_| serves_calls).chain(probes);
    for (path, routes) in served {
        paths.push(path.to_owned());
        router = router.route(path, routes);
    }
    let router = if serves_calls { router.fallback(fallback) } else { router.fallback(not_served_here) };
    let router = router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(doors, around))
        .layer(middleware::from_fn_with_state(services.clone(), observe))
        .layer(cors)
        .with_state(services.clone());
    Served { router, paths }
}

/// The answer of an instance that does background work alone, to everything but health checks.
async fn not_served_here() -> axum::response::Response {
    let message = "this instance does background work alone (SERVER_ROLE=worker): call an instance with SERVER_ROLE=api or \
                   all";
    let body = Json(serde_json::json!({ "error": "NotServedHere", "message": message }));
    let retry_after = [(header::RETRY_AFTER, "1")];
    (StatusCode::SERVICE_UNAVAILABLE, retry_after, body).into_response()
}

/// A handler that panicked is our mistake; the panic's text goes to the log alone.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> axum::response::Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a text");
    Fault::internal(text.to_owned()).into_response()
}
