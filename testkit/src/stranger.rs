//! A server that we did not write: it says of itself what a test wants, and signs what a test wants.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use rookery::federation::{Outgoing, sign};
use rookery::identity::{Curve, SigningKey, key_tag};
use rookery::types::{Clock, Did};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{Answer, TestServer};

/// What it answers to any method.
#[derive(Clone, Debug)]
pub enum Behaviour {
    Answers(u16, Value),
    /// The same, and asks for so many seconds of patience.
    Later(u16, Value, u64),
    /// Takes the request and says nothing.
    Silent,
}

struct Says {
    document: Value,
    keys: Value,
    behaviour: Behaviour,
    /// Paths that were asked for.
    asked: Vec<String>,
}

pub struct Stranger {
    pub did: Did,
    pub origin: String,
    pub peer: SigningKey,
    pub checkpoint: SigningKey,
    says: Arc<Mutex<Says>>,
    _listener: AbortOnDropHandle<()>,
}

impl Stranger {
    /// With a document that makes it a server.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (did, origin) = (format!("did:web:localhost%3A{port}"), format!("http://localhost:{port}"));
        let (peer, checkpoint) = (SigningKey::generate(Curve::Ed25519), SigningKey::generate(Curve::P256));
        let behaviour = Behaviour::Answers(501, json!({ "error": "MethodNotImplemented", "message": "no" }));
        let says = Says { document: Value::Null, keys: json!({ "keys": [] }), behaviour, asked: Vec::new() };
        let says = Arc::new(Mutex::new(says));
        let router = Router::new()
            .route("/.well-known/did.json", get(document))
            .route("/xrpc/blue.catbird.peer.getKeys", get(keys))
            .route("/xrpc/{method}", any(method))
            .with_state(Arc::clone(&says));
        let listener = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let listener = AbortOnDropHandle::new(listener);
        let stranger = Self { did: Did::parse(&did).unwrap(), origin, peer, checkpoint, says, _listener: listener };
        stranger.shows(&[&stranger.peer], &[&stranger.checkpoint]);
        stranger
    }

    /// From now on its document lists these keys.
    pub fn shows(&self, peer: &[&SigningKey], checkpoint: &[&SigningKey]) {
        let method = |purpose: &str, key: &SigningKey| {
            let id = format!("{}#{purpose}-{}", self.did, key_tag(&key.public()));
            json!({ "id": id, "type": "Multikey", "controller": self.did, "publicKeyMultibase": key.public().multikey() })
        };
        let methods: Vec<Value> = peer
            .iter()
            .map(|key| method("peer", key))
            .chain(checkpoint.iter().map(|key| method("checkpoint", key)))
            .collect();
        self.says.lock().unwrap().document = json!({
            "id": self.did,
            "verificationMethod": methods,
            "service": [{ "id": "#atproto_mls", "type": "AtprotoMlsService", "serviceEndpoint": self.origin }],
        });
    }

    /// Changes the document in any way.
    pub fn document(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.says.lock().unwrap().document);
    }

    /// What getKeys answers.
    pub fn lists(&self, keys: Value) {
        self.says.lock().unwrap().keys = keys;
    }

    pub fn behaves(&self, behaviour: Behaviour) {
        self.says.lock().unwrap().behaviour = behaviour;
    }

    /// What it was asked since the last look.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.says.lock().unwrap().asked)
    }

    /// A call as a good server would sign it, for that account and device.
    pub fn call<'a>(&'a self, nsid: &'a str, actor: Option<(&'a Did, &'a str)>) -> Call<'a> {
        Call {
            stranger: self,
            nsid,
            query: String::new(),
            body: None,
            content_type: "application/json",
            actor,
            key: &self.peer,
            skew_s: 0,
        }
    }
}

/// A signed request that can be spoiled.
pub struct Call<'a> {
    stranger: &'a Stranger,
    nsid: &'a str,
    /// With its `?`.
    pub query: String,
    pub body: Option<Value>,
    pub content_type: &'static str,
    pub actor: Option<(&'a Did, &'a str)>,
    pub key: &'a SigningKey,
    /// By how much its clock is wrong.
    pub skew_s: i64,
}

impl Call<'_> {
    /// Its headers, for this server.
    pub fn signed(&self, server: &TestServer) -> (Vec<u8>, HeaderMap) {
        let body = self.body.as_ref().map(|body| serde_json::to_vec(body).unwrap()).unwrap_or_default();
        let origin = server.server().services().config.identity.public_url.origin().ascii_serialization();
        let target_uri = format!("{origin}/xrpc/{}{}", self.nsid, self.query);
        let key_id = format!("{}#peer-{}", self.stranger.did, key_tag(&self.key.public()));
        let outgoing = Outgoing {
            method: if self.body.is_some() { "POST" } else { "GET" },
            target_uri: &target_uri,
            content_type: Some(self.content_type),
            body: &body,
            audience: server.name().as_str(),
            actor: self.actor.map(|(account, _)| account.as_str()),
            device: self.actor.map(|(_, device)| device).filter(|device| !device.is_empty()),
            key_id: &key_id,
            created_s: Clock::System.now_seconds() + self.skew_s,
            nonce: rand::random(),
        };
        let headers = sign(&outgoing, self.key).unwrap();
        (body, headers)
    }

    pub async fn send(&self, server: &TestServer) -> Answer {
        let (body, headers) = self.signed(server);
        self.send_as(server, body, &headers).await
    }

    /// The same with other headers or another body than were signed.
    pub async fn send_as(&self, server: &TestServer, body: Vec<u8>, headers: &HeaderMap) -> Answer {
        let mut request = server.raw(self.nsid, &self.query);
        for (name, value) in headers {
            request = request.header(name.clone(), value.to_str().unwrap());
        }
        if self.body.is_some() {
            request = request.body(body);
        }
        request.send().await
    }
}

type Shared = State<Arc<Mutex<Says>>>;

/// A host without a document answers 404.
async fn document(State(says): Shared) -> Response {
    let mut says = says.lock().unwrap();
    says.asked.push("did.json".to_owned());
    if says.document.is_null() {
        StatusCode::NOT_FOUND.into_response()
    } else {
        Json(says.document.clone()).into_response()
    }
}

async fn keys(State(says): Shared) -> Json<Value> {
    Json(says.lock().unwrap().keys.clone())
}

async fn method(State(says): Shared, request: axum::extract::Request) -> Response {
    let behaviour = {
        let mut says = says.lock().unwrap();
        says.asked.push(request.uri().path().trim_start_matches("/xrpc/").to_owned());
        says.behaviour.clone()
    };
    match behaviour {
        Behaviour::Answers(status, body) => (StatusCode::from_u16(status).unwrap(), Json(body)).into_response(),
        Behaviour::Later(status, body, seconds) => {
            let patience = [("retry-after", seconds.to_string())];
            (StatusCode::from_u16(status).unwrap(), patience, Json(body)).into_response()
        }
        Behaviour::Silent => std::future::pending().await,
    }
}
