//! Whether the process lives, whether it should get requests, and why not.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use serde::Serialize;

use crate::xrpc::Services;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn routes() -> Router<Services> {
    Router::new()
        .route("/health", get(detailed))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/xrpc/_health", get(atproto))
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    database: &'static str,
    migrations: &'static str,
    accepting: bool,
}

async fn report(cx: &Services) -> Report {
    let database = cx.storage.ping().await.is_ok();
    let migrated = database && cx.storage.is_migrated().await.unwrap_or(false);
    let accepting = !cx.stopping.is_cancelled();
    Report {
        status: if migrated && accepting { "ok" } else { "unavailable" },
        version: VERSION,
        database: if database { "ok" } else { "unreachable" },
        migrations: if migrated { "ok" } else { "behind or unknown" },
        accepting,
    }
}

fn answer(report: Report) -> Response {
    let status = if report.status == "ok" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// The process alone: never touches the database.
async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

/// Database, migrations, not draining. Nothing else decides it.
async fn ready(State(cx): State<Services>) -> Response {
    answer(report(&cx).await)
}

async fn detailed(State(cx): State<Services>) -> Response {
    answer(report(&cx).await)
}

/// The form that AT Protocol tools expect.
async fn atproto(State(cx): State<Services>) -> Response {
    match cx.storage.ping().await {
        Ok(()) => Json(serde_json::json!({ "version": VERSION })).into_response(),
        Err(_) => {
            let body = serde_json::json!({ "version": VERSION, "error": "Service Unavailable" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}
