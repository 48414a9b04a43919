//! Whether the process lives, whether it should get requests, and why not.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::StatusCode;
use serde::Serialize;

use crate::log::LogFlow;
use crate::xrpc::Services;

const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn routes() -> [(&'static str, MethodRouter<Services>); 4] {
    [
        ("/health", get(detailed)),
        ("/health/live", get(live)),
        ("/health/ready", get(ready)),
        ("/xrpc/_health", get(atproto)),
    ]
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    database: &'static str,
    migrations: &'static str,
    /// Whether the log of this instance flows: `ok`, `writer stalled` or `tailer stalled`.
    log: &'static str,
    /// What is known of the disk of Postgres: `ok`, `low` or `full`. Without room reads and revocations go on.
    disk: &'static str,
    accepting: bool,
    /// Why it should get no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

async fn report(cx: &Services) -> Report {
    let database = cx.storage.ping().await.is_ok();
    let migrated = database && cx.storage.is_migrated().await.unwrap_or(false);
    let accepting = !cx.stopping.is_cancelled();
    let flow = cx.log.flow();
    let reason = match (accepting, database, migrated, flow) {
        (false, ..) => Some("Stopping"),
        (_, false, ..) => Some("DatabaseUnreachable"),
        (_, _, false, _) => Some("MigrationsBehind"),
        (.., LogFlow::WriterStalled) => Some("WriterStalled"),
        (.., LogFlow::TailerStalled) => Some("TailerStalled"),
        _ => None,
    };
    Report {
        status: if reason.is_none() { "ok" } else { "unavailable" },
        version: VERSION,
        database: if database { "ok" } else { "unreachable" },
        migrations: if migrated { "ok" } else { "behind or unknown" },
        log: flow.name(),
        disk: cx.storage.disk().name(),
        accepting,
        reason,
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

/// Database, migrations, this instance's log, not draining. Nothing else decides it; Redis never does, nor a full disk,
/// which all instances share and reads outlast.
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
