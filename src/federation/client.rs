//! Signed calls to peers.
//!
//! Invariants: no call goes to a server whose own document does not name it as one, or that policy or a held key
//! excludes; an error says whether the call may have had an effect; every attempt has a nonce of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method as Verb, StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;

use super::signature::{INCARNATION, Outgoing, sign};
use super::{Federation, PeerRefused, peers};
use crate::identity::http::{HttpError, Lane};
use crate::lexicon::{Kind, Method};
use crate::limit::Weigh;
use crate::telemetry::metric_name;
use crate::types::Did;

/// Bytes of an answer.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;
/// Bytes of an error's JSON that is read.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Failed connections in a row after which the server makes no call to the peer for [`BROKEN_FOR_MS`].
const BREAKS_AFTER: u32 = 3;
/// Milliseconds without calls after [`BREAKS_AFTER`] failed connections.
const BROKEN_FOR_MS: i64 = 10_000;

/// The account that a call is made for.
#[derive(Clone, Copy, Debug)]
pub struct Actor<'a> {
    pub account: &'a Did,
    pub device: Option<&'a str>,
}

/// A request as it goes out, but for its signature.
pub struct PeerRequest<'a> {
    pub nsid: &'a str,
    pub kind: Kind,
    /// As it stands behind the question mark, escaped.
    pub query: &'a str,
    pub body: Bytes,
    pub content_type: Option<&'a str>,
    pub actor: Option<Actor<'a>>,
}

/// Why there is no answer of the kind that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call cannot have had an effect.
    #[error("not sent: {0}")]
    NotSent(&'static str),
    /// The call may have had an effect.
    #[error("sent, and no answer came")]
    NoAnswer,
    #[error("the peer answered {status} {error}")]
    Refused {
        status: u16,
        error: String,
        message: String,
        retry_after: Option<Duration>,
        /// The server that the refusal names as the stream's home, which alone is no proof.
        home: Option<Did>,
    },
    #[error("the peer's answer cannot be read")]
    Unreadable,
}

impl CallError {
    /// Whether the peer refused it by this name.
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Self::Refused { error, .. } if error == name)
    }

    /// The home that the peer names, where it is not the home itself.
    pub fn named_home(&self) -> Option<&Did> {
        match self {
            Self::Refused { error, home, .. } if ["NotHome", "HomeMoved"].contains(&error.as_str()) => home.as_ref(),
            _ => None,
        }
    }
}

/// Whether it is worth a try.
#[derive(Default)]
pub(super) struct Breaker {
    failures: AtomicU32,
    closed_until_ms: AtomicI64,
}

impl Weigh for Breaker {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>()
    }
}

impl Breaker {
    fn is_open(&self, now_ms: i64) -> bool {
        self.closed_until_ms.load(Ordering::Relaxed) > now_ms
    }

    fn connected(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    fn failed(&self, now_ms: i64) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKS_AFTER {
            self.failures.store(0, Ordering::Relaxed);
            self.closed_until_ms.store(now_ms + BROKEN_FOR_MS, Ordering::Relaxed);
        }
    }
}

impl Federation {
    /// Records that the peer is reachable again.
    pub(super) fn seems_well(&self, peer: &Did) {
        if let Some(breaker) = self.breakers.get(peer) {
            breaker.connected();
            breaker.closed_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Calls a query.
    pub async fn query<M: Method>(
        &self,
        peer: &Did,
        params: &M::Params,
        actor: Option<Actor<'_>>,
    ) -> Result<M::Output, CallError> {
        let params = serde_json::to_value(params).map_err(|_| CallError::NotSent("the parameters"))?;
        let query = crate::lexicon::schema::query_string(&params);
        let request = PeerRequest {
            nsid: M::NSID,
            kind: Kind::Query,
            query: &query,
            body: Bytes::new(),
            content_type: None,
            actor,
        };
        read(&self.call(peer, request).await?)
    }

    /// Calls a procedure with a JSON input.
    pub async fn procedure<M: Method>(
        &self,
        peer: &Did,
        input: &M::Input,
        actor: Option<Actor<'_>>,
    ) -> Result<M::Output, CallError> {
        let body = serde_json::to_vec(input).map_err(|_| CallError::NotSent("the input"))?;
        let request = PeerRequest {
            nsid: M::NSID,
            kind: Kind::Procedure,
            query: "",
            body: body.into(),
            content_type: Some("application/json"),
            actor,
        };
        read(&self.call(peer, request).await?)
    }

    /// Calls with unchanged bytes, and answers a success as received.
    pub async fn call(&self, peer: &Did, request: PeerRequest<'_>) -> Result<http::Response<Bytes>, CallError> {
        let answer = self.exchange(peer, request).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(refused(&answer)) }
    }

    /// Calls with unchanged bytes, and answers any status as received.
    pub async fn exchange(&self, peer: &Did, request: PeerRequest<'_>) -> Result<http::Response<Bytes>, CallError> {
        let began = Instant::now();
        let answer = self.attempt(peer, request).await;
        let outcome = match &answer {
            Ok(answer) if answer.status().is_success() => "answered",
            Ok(_) => "refused",
            Err(CallError::NotSent(_)) => "not_sent",
            Err(_) => "no_answer",
        };
        let label = self.labels.of(peer);
        metrics::counter!(metric_name::PEER_CALLS, "peer" => Arc::clone(&label), "outcome" => outcome).increment(1);
        if outcome != "not_sent" {
            metrics::histogram!(metric_name::PEER_CALL_SECONDS, "peer" => label).record(began.elapsed().as_secs_f64());
        }
        answer
    }

    async fn attempt(&self, peer: &Did, request: PeerRequest<'_>) -> Result<http::Response<Bytes>, CallError> {
        let endpoint = self.reach(peer).await?;
        let breaker = self.breakers.get_with(peer.clone(), Default::default);
        let now_ms = self.clock.now().0;
        if breaker.is_open(now_ms) {
            return Err(CallError::NotSent("it could not be reached a moment ago"));
        }
        let outgoing = self.signed(peer, &endpoint, &request)?;
        match self.client.send_in(lane(&request), outgoing, MAX_ANSWER_BYTES).await {
            Ok(answer) => {
                breaker.connected();
                self.note_incarnation(peer, &answer).await;
                Ok(answer)
            }
            Err(HttpError::NoConnection(step)) => {
                breaker.failed(now_ms);
                Err(CallError::NotSent(step.what_failed()))
            }
            // A missing slot is no failure of the peer's connection.
            Err(HttpError::Busy) => Err(CallError::NotSent("too many calls to it are under way")),
            Err(HttpError::BadUrl(_) | HttpError::NotPublic) => Err(CallError::NotSent("its host is not called")),
            Err(HttpError::TooLarge(_)) => Err(CallError::Unreadable),
            Err(HttpError::TimedOut | HttpError::Failed(_)) => Err(CallError::NoAnswer),
        }
    }

    /// The endpoint of a server that we may call.
    async fn reach(&self, peer: &Did) -> Result<String, CallError> {
        let told = |refused| {
            CallError::NotSent(match refused {
                PeerRefused::FederationOff => "federation is off",
                PeerRefused::PeerBlocked | PeerRefused::PeerPending => "policy",
                PeerRefused::PeerKeyHeld | PeerRefused::PeerKeyReused => "its key is not trusted",
                PeerRefused::PeerUnknown(_) => "it is not a server",
                _ => "its document cannot be fetched",
            })
        };
        let known = self.known(peer).await.map_err(|error| told(peers::unavailable(error)))?;
        self.may_talk(peer, known.as_ref()).map_err(told)?;
        let document = self.document_of(peer, known.as_ref(), None).await.map_err(told)?;
        self.meet(peer, known, &document).await.map_err(told)?;
        Ok(document.endpoint)
    }

    fn signed(&self, peer: &Did, endpoint: &str, request: &PeerRequest<'_>) -> Result<http::Request<Bytes>, CallError> {
        let question = if request.query.is_empty() { "" } else { "?" };
        let url = format!("{endpoint}/xrpc/{}{question}{}", request.nsid, request.query);
        let verb = if request.kind == Kind::Procedure { Verb::POST } else { Verb::GET };
        let key_id = format!("{}{}", self.settings.server, self.keys.peer_id());
        let outgoing = Outgoing {
            method: verb.as_str(),
            target_uri: &url,
            content_type: request.content_type,
            body: &request.body,
            audience: peer.as_str(),
            actor: request.actor.map(|actor| actor.account.as_str()),
            device: request.actor.and_then(|actor| actor.device),
            key_id: &key_id,
            created_s: self.clock.now_seconds(),
            nonce: rand::random(),
        };
        let headers = sign(&outgoing, &self.keys.peer).map_err(|_| CallError::NotSent("a header"))?;
        let mut built = http::Request::builder().method(verb).uri(url.as_str()).body(request.body.clone());
        if let Ok(request) = &mut built {
            *request.headers_mut() = headers;
            request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        }
        built.map_err(|_| CallError::NotSent("its address"))
    }

    /// Publishes a new incarnation of a peer's database to its subscribers.
    async fn note_incarnation(&self, peer: &Did, answer: &http::Response<Bytes>) {
        let named = answer.headers().get(&INCARNATION).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        let Some(incarnation) = named.filter(|named| *named <= self.clock.now_seconds() + 300) else { return };
        if self.incarnations.get(peer).is_some_and(|known| known >= incarnation) {
            return;
        }
        self.incarnations.insert(peer.clone(), incarnation);
        match peers::store::rises(self.storage.pool(), peer, incarnation).await {
            // What it was before the first answer was never known.
            Ok(Some(before)) if before > 0 => {
                tracing::warn!(peer = peer.as_str(), "a peer's database went back in time");
                // The channel may have no receiver.
                let _ = self.rises.send(peer.clone());
            }
            Ok(_) => {}
            Err(error) => drop(peers::unavailable(error)),
        }
    }

    /// The peer's list of its keys, for endorsements. The list proves nothing by itself.
    pub(super) async fn listed_keys(&self, document: &peers::ServerDocument) -> Vec<peers::Listed> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<peers::Listed>,
        }
        let url = format!("{}/xrpc/blue.catbird.peer.getKeys", document.endpoint);
        let answer = self.client.get(&url, "application/json").await;
        let keys = answer.ok().and_then(|answer| serde_json::from_slice::<Keys>(answer.body()).ok());
        keys.map(|keys| keys.keys).unwrap_or_default()
    }
}

/// The lane of a request: a client's call never queues behind calls of workers, nor those behind replication.
fn lane(request: &PeerRequest<'_>) -> Lane {
    if request.actor.is_some_and(|actor| actor.device.is_some()) {
        Lane::Person
    } else if request.content_type == Some("application/vnd.ipld.dag-cbor") {
        Lane::Bulk
    } else {
        Lane::Background
    }
}

fn read<O: serde::de::DeserializeOwned>(answer: &http::Response<Bytes>) -> Result<O, CallError> {
    serde_json::from_slice(answer.body()).map_err(|_| CallError::Unreadable)
}

/// An error of the peer, with its message if that is readable.
pub fn refused(answer: &http::Response<Bytes>) -> CallError {
    #[derive(Deserialize)]
    struct Told {
        error: String,
        #[serde(default)]
        message: String,
        home: Option<String>,
    }
    let told = Some(answer.body()).filter(|body| body.len() <= MAX_ERROR_BYTES);
    let told: Option<Told> = told.and_then(|body| serde_json::from_slice(body).ok());
    let told = told.unwrap_or(Told { error: String::new(), message: String::new(), home: None });
    let retry_after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let status: StatusCode = answer.status();
    CallError::Refused {
        status: status.as_u16(),
        error: told.error,
        message: told.message,
        retry_after: retry_after.map(Duration::from_secs),
        home: told.home.and_then(|home| Did::parse(&home).ok()),
    }
}
