//! Health checks: whether the process lives, whether it should get requests, and the reasons if not.
//!
//! Invariant: no probe is refused, and concurrent probes share one query of the database.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Extension, Json};
use http::StatusCode;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::federation::VERSION;
use crate::log::LogFlow;
use crate::xrpc::Services;

/// Time that the database's answer serves further probes.
const DATABASE_SEEN: Duration = Duration::from_millis(500);

pub(super) fn routes() -> [(&'static str, MethodRouter<Services>); 4] {
    let seen = SeenDatabase::default();
    [
        ("/health", get(detailed)),
        ("/health/live", get(live)),
        ("/health/ready", get(ready)),
        ("/xrpc/_health", get(atproto)),
    ]
    .map(|(path, route)| (path, route.layer(Extension(seen.clone()))))
}

/// The latest state of the database.
#[derive(Clone, Default)]
struct SeenDatabase(Arc<Mutex<Option<(Instant, DatabaseState)>>>);

#[derive(Clone, Copy)]
struct DatabaseState {
    reachable: bool,
    migrated: bool,
}

impl SeenDatabase {
    /// The state of the database, at most half a second old. Concurrent probes wait for one answer.
    async fn state(&self, cx: &Services) -> DatabaseState {
        let mut seen = self.0.lock().await;
        if let Some((at, state)) = &*seen
            && at.elapsed() < DATABASE_SEEN
        {
            return *state;
        }
        let reachable = cx.storage.ping().await.is_ok();
        let migrated = reachable && cx.storage.is_migrated().await.unwrap_or(false);
        let state = DatabaseState { reachable, migrated };
        *seen = Some((Instant::now(), state));
        state
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    version: &'static str,
    database: &'static str,
    migrations: &'static str,
    /// The state of this instance's log: `ok`, `writer stalled` or `tailer stalled`.
    log: &'static str,
    /// The state of the disk of Postgres: `ok`, `low` or `full`. Without room, reads and revocations go on.
    disk: &'static str,
    accepting: bool,
    /// Why it should get no requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

async fn report(cx: &Services, seen: &SeenDatabase) -> Report {
    let DatabaseState { reachable: database, migrated } = seen.state(cx).await;
    let accepting = !cx.draining.is_cancelled();
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

/// Checks the database, its migrations, this instance's log, and that the server is not draining. Nothing else decides
/// readiness: Redis does not, nor a full disk, which all instances share and reads survive.
async fn ready(State(cx): State<Services>, Extension(seen): Extension<SeenDatabase>) -> Response {
    answer(report(&cx, &seen).await)
}

async fn detailed(State(cx): State<Services>, Extension(seen): Extension<SeenDatabase>) -> Response {
    answer(report(&cx, &seen).await)
}

/// The form that AT Protocol tools expect.
async fn atproto(State(cx): State<Services>, Extension(seen): Extension<SeenDatabase>) -> Response {
    if seen.state(&cx).await.reachable {
        return Json(serde_json::json!({ "version": VERSION })).into_response();
    }
    let body = serde_json::json!({ "version": VERSION, "error": "Service Unavailable" });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}
