//! A repository of lexicons that takes what a PDS takes: one account, one password, and a version for each record.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

pub const DID: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
pub const PASSWORD: &str = "abcd-efgh-ijkl-mnop";
const TOKEN: &str = "access";
/// Smaller than what is asked for, so that there are pages.
const PAGE: usize = 7;

#[derive(Default)]
struct Held {
    records: BTreeMap<String, (u64, Value)>,
    versions: u64,
    /// By clients.
    writes: u64,
    open_sessions: i64,
    /// Somebody else writes this record as soon as all were read.
    meddled: Option<String>,
}

impl Held {
    fn put(&mut self, key: &str, record: Value) -> String {
        self.versions += 1;
        self.records.insert(key.to_owned(), (self.versions, record));
        version(self.versions)
    }
}

fn version(number: u64) -> String {
    format!("bafyrei{number:052}")
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Held>>);

pub struct StandInPds {
    shared: Shared,
    url: String,
    _serving: AbortOnDropHandle<()>,
}

impl StandInPds {
    pub async fn start() -> Self {
        let shared = Shared::default();
        let routes = Router::new()
            .route("/xrpc/com.atproto.server.createSession", post(create_session))
            .route("/xrpc/com.atproto.server.deleteSession", post(delete_session))
            .route("/xrpc/com.atproto.identity.resolveHandle", get(async || Json(json!({ "did": DID }))))
            .route("/xrpc/com.atproto.repo.listRecords", get(list_records))
            .route("/xrpc/com.atproto.repo.putRecord", post(put_record))
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, url, _serving: AbortOnDropHandle::new(serving) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn writes(&self) -> u64 {
        self.shared.0.lock().unwrap().writes
    }

    pub fn open_sessions(&self) -> i64 {
        self.shared.0.lock().unwrap().open_sessions
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().records.keys().cloned().collect()
    }

    pub fn record(&self, key: &str) -> Value {
        self.shared.0.lock().unwrap().records[key].1.clone()
    }

    /// Not counted as a write.
    pub fn set(&self, key: &str, record: Value) {
        self.shared.0.lock().unwrap().put(key, record);
    }

    pub fn meddle_with(&self, key: &str) {
        self.shared.0.lock().unwrap().meddled = Some(key.to_owned());
    }
}

fn refused(status: StatusCode, error: &str, message: &str) -> Response {
    (status, Json(json!({ "error": error, "message": message }))).into_response()
}

async fn create_session(State(shared): State<Shared>, Json(body): Json<Value>) -> Response {
    if body["password"] != PASSWORD {
        return refused(StatusCode::UNAUTHORIZED, "AuthenticationRequired", "Invalid identifier or password");
    }
    shared.0.lock().unwrap().open_sessions += 1;
    Json(json!({ "did": DID, "handle": body["identifier"], "accessJwt": TOKEN, "refreshJwt": "refresh" }))
        .into_response()
}

async fn delete_session(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    if headers["authorization"] == "Bearer refresh" {
        shared.0.lock().unwrap().open_sessions -= 1;
    }
    StatusCode::OK.into_response()
}

async fn list_records(State(shared): State<Shared>, RawQuery(query): RawQuery) -> Response {
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(query.unwrap().as_bytes()).into_owned().collect();
    assert_eq!((query["repo"].as_str(), query["collection"].as_str()), (DID, "com.atproto.lexicon.schema"));
    let mut held = shared.0.lock().unwrap();
    let after = query.get("cursor").map_or("", String::as_str);
    let page: Vec<_> = held.records.iter().filter(|(key, _)| key.as_str() > after).take(PAGE).collect();
    let cursor = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| (*key).clone());
    let records: Vec<_> = page
        .iter()
        .map(|(key, (number, record))| {
            let uri = format!("at://{DID}/com.atproto.lexicon.schema/{key}");
            json!({ "uri": uri, "cid": version(*number), "value": record })
        })
        .collect();
    if cursor.is_none()
        && let Some(key) = held.meddled.take()
    {
        held.put(&key, json!({ "lexicon": 1, "id": key, "defs": {} }));
    }
    Json(json!({ "records": records, "cursor": cursor })).into_response()
}

async fn put_record(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if headers.get("authorization").is_none_or(|token| token != &format!("Bearer {TOKEN}")) {
        return refused(StatusCode::UNAUTHORIZED, "AuthMissing", "Authentication Required");
    }
    let key = body["rkey"].as_str().unwrap().to_owned();
    assert_eq!((&body["repo"], &body["collection"]), (&DID.into(), &"com.atproto.lexicon.schema".into()));
    assert!(body.as_object().unwrap().contains_key("swapRecord"), "a write names what it replaces");
    let mut held = shared.0.lock().unwrap();
    let there = held.records.get(&key).map(|(number, _)| Value::from(version(*number))).unwrap_or_default();
    if body["swapRecord"] != there {
        return refused(StatusCode::BAD_REQUEST, "InvalidSwap", "Record was at another version");
    }
    held.writes += 1;
    let cid = held.put(&key, body["record"].clone());
    Json(json!({ "uri": format!("at://{DID}/com.atproto.lexicon.schema/{key}"), "cid": cid })).into_response()
}
