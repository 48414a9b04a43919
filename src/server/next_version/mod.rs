//! Of the cargo feature `next-version` alone: how the test of upgrades has a later version write an entry and a delivery
//! of later kinds.
//!
//! Invariant: a call that is repeated with its `idem` writes nothing more. The routes ask for no proof, and are mounted in
//! development alone.

mod store;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::log::{CallIdentity, Draft, EntryKind, Error, FEATURES};
use crate::types::{Bytes, Did, Hash};
use crate::xrpc::Services;

pub(super) fn routes(services: &Services) -> Vec<(&'static str, MethodRouter<Services>)> {
    if services.config.is_production() {
        return Vec::new();
    }
    vec![("/next-version/note", post(note)), ("/next-version/deliver", post(deliver))]
}

/// An entry of kind `#note`.
#[derive(Deserialize)]
struct Note {
    stream: String,
    /// An account with a seat.
    account: Did,
    idem: String,
    text: String,
    /// Whether the entry requires the feature of this version.
    critical: bool,
}

async fn note(State(cx): State<Services>, Json(note): Json<Note>) -> Response {
    answer(write(&cx, note).await)
}

async fn write(cx: &Services, note: Note) -> Result<(), Error> {
    let Some(stream) = cx.log.find_stream(&note.stream).await? else { return Err(Error::Busy) };
    let idem = uuid::Uuid::from_slice(&Hash::of(note.idem.as_bytes()).0[..16]).unwrap_or_default();
    let identity = CallIdentity { idem, request_hash: Hash::of(note.text.as_bytes()) };
    let mut tx = cx.log.lock(stream.id).await?;
    if tx.repeated(&identity).await?.is_some() {
        return tx.rollback().await;
    }
    let by = tx.on_behalf(&note.account).await?;
    let body = note.text.clone().into_bytes();
    let draft = Draft { kind: EntryKind::Note, epoch: None, body, identity: Some(identity) };
    let sealed = match FEATURES.first().filter(|_| note.critical) {
        Some(feature) => tx.append_requiring(&by, draft, feature).await?,
        None => tx.append(&by, draft).await?,
    };
    store::insert_note(tx.conn(), stream.id, sealed.seq, &note.text).await?;
    tx.commit().await
}

/// A delivery of kind `note` from an account of this server.
#[derive(Deserialize)]
struct NoteDelivery {
    from: Did,
    to: Did,
    /// did:web of the receiver's server.
    server: Did,
    idem: String,
    text: String,
}

async fn deliver(State(cx): State<Services>, Json(delivery): Json<NoteDelivery>) -> Response {
    let body = json!({ "from": delivery.from, "note": Bytes(delivery.text.into_bytes()) });
    let queued = async {
        let mut tx = cx.storage.begin().await?;
        store::insert_delivery(tx.conn(), &delivery.idem, &delivery.server, &delivery.to, &body).await?;
        Ok(tx.commit().await?)
    };
    answer(queued.await)
}

fn answer(outcome: Result<(), Error>) -> Response {
    match outcome {
        Ok(()) => StatusCode::OK.into_response(),
        Err(Error::FollowersOutdated(servers)) => (StatusCode::CONFLICT, servers.join(" ")).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}
