//! Requests as they are, for what no client of ours sends.
//!
//! Invariant: every answer is compared with its lexicon here: an output in its shape, or an error that the method
//! declares or that any method may give, with its sentence.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use rookery::lexicon::{Kind, schema};
use serde_json::Value;

use crate::TestServer;

/// What any method may answer instead of its output, and the only statuses that it may come with.
const FAULTS: &[(&str, u16)] = &[
    ("InvalidRequest", 400),
    ("AccountSuspended", 403),
    ("AccountHomeElsewhere", 403),
    ("NotOperator", 403),
    ("BodyTooSlow", 408),
    ("PayloadTooLarge", 413),
    ("RateLimitExceeded", 429),
    ("NotConfigured", 501),
    ("MethodNotImplemented", 501),
    ("Unavailable", 503),
    ("DidUnresolvable", 503),
    ("TimedOut", 504),
    ("InternalServerError", 500),
];

/// What any method that peers call may answer to one instead.
const PEER_FAULTS: &[(&str, u16)] = &[
    ("AmbiguousCredentials", 400),
    ("ActorRequired", 400),
    ("ActorNotAllowed", 400),
    ("DeviceMismatch", 400),
    ("SignatureMissing", 401),
    ("SignatureMalformed", 401),
    ("SignatureExpired", 401),
    ("SignatureInvalid", 401),
    ("SignatureReplayed", 401),
    ("DigestMismatch", 401),
    ("WrongAudience", 401),
    ("PeerKeyUnknown", 401),
    ("PeerKeyReused", 401),
    ("FederationOff", 403),
    ("PeerPending", 403),
    ("PeerBlocked", 403),
    ("PeerKeyHeld", 403),
    ("NotSpokenFor", 403),
    ("NotHome", 403),
    ("TooManyDevices", 409),
    ("StreamFrozen", 409),
    ("HomeMoved", 409),
    ("HomeUnavailable", 502),
    ("FederationRefused", 502),
    ("HomeUnverified", 503),
    ("HomeMoving", 503),
    ("HomeRecovering", 503),
    ("KindNotImplemented", 501),
    ("OutcomeUnknown", 504),
];

/// An answer that its lexicon allows.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Status and error name; the name is empty in an answer of success.
    pub fn outcome(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or_default())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A request to be sent.
pub struct Request {
    nsid: String,
    builder: reqwest::RequestBuilder,
}

impl TestServer {
    /// A call by the verb of its method, with no token; `query` begins with `?` or is empty.
    pub fn raw(&self, nsid: &str, query: &str) -> Request {
        let kind = schema::methods().find(|(name, ..)| *name == nsid).map(|(_, kind, _)| kind);
        let verb = if kind == Some(Kind::Procedure) { http::Method::POST } else { http::Method::GET };
        self.verb(verb, nsid, query)
    }

    pub fn verb(&self, verb: http::Method, nsid: &str, query: &str) -> Request {
        Request { nsid: nsid.to_owned(), builder: self.at(verb, &format!("/xrpc/{nsid}{query}")) }
    }

    /// Status and error name of a query, from any server.
    pub async fn http_get(&self, url: &str, token: &str) -> (u16, String) {
        let answer = self.http.get(url).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, body["error"].as_str().unwrap_or_default().to_owned())
    }

    /// Any path, by any verb.
    pub fn at(&self, verb: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(verb, format!("{}{path}", self.url()))
    }
}

impl Request {
    pub fn token(self, token: &str) -> Self {
        self.header(header::AUTHORIZATION, &format!("Bearer {token}"))
    }

    pub fn json(self, body: &Value) -> Self {
        self.header(header::CONTENT_TYPE, "application/json").body(serde_json::to_vec(body).unwrap())
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.builder = self.builder.body(body.into());
        self
    }

    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub async fn send(self) -> Answer {
        let response = self.builder.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status == 200 && schema::streams(&self.nsid) {
            assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream", "{}", self.nsid);
            // Its events are read by `Events`.
            return Answer { status, headers, body: Value::Null };
        }
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", self.nsid));
        let answer = Answer { status, headers, body };
        check(&self.nsid, &answer);
        answer
    }
}

fn check(nsid: &str, answer: &Answer) {
    assert_eq!(answer.header("content-type"), "application/json", "{nsid}");
    if answer.status == StatusCode::OK {
        if let Err(violation) = schema::output(nsid, &answer.body) {
            assert!(
                !schema::methods().any(|(name, ..)| name == nsid),
                "{nsid} answered against its lexicon: {violation}"
            );
        }
        return;
    }
    let (status, error) = answer.outcome();
    let mut methods = schema::methods();
    let declared =
        methods.find(|(name, ..)| *name == nsid).is_some_and(|(.., errors)| errors.iter().any(|e| e == error));
    // A token's refusal has one of many names; its status, and the header, say what it is.
    let token = status == 401 && answer.header("www-authenticate").contains(error);
    let fault = FAULTS.contains(&(error, status)) || PEER_FAULTS.contains(&(error, status));
    assert!(declared || token || fault, "{nsid} answered {status} with {error:?}, which it does not declare");
    let message = answer.body["message"].as_str().unwrap_or_default();
    assert!(!message.is_empty(), "{nsid}: {error} comes with a sentence");
}
