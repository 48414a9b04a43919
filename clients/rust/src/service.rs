//! One server as its clients call it.
//!
//! Invariant: a call that was lost, or that the server could not take for the moment, is repeated byte for byte, so with
//! the same `idem`, and with a fresh token. Whatever comes back is an answer of the lexicon's shape or a typed error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use rookery_protocol::identity::DEVICE_TOKEN_HEADER;
use rookery_protocol::lexicon::{Kind, Method, schema};
use rookery_protocol::types::{Clock, Did};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

/// How long a call is repeated before it counts as unanswered.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// Pauses between repeats: doubled from the first to the second, and up to as much again by chance.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));
/// How long one try may take, and how long connecting may.
const TIMES: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));
const USER_AGENT: &str = concat!("rookery-client/", env!("CARGO_PKG_VERSION"));

/// The server's own no, with its name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{nsid} was refused: {status} {error}: {message}")]
pub struct Refused {
    pub nsid: &'static str,
    pub status: u16,
    /// The name that the lexicon declares, or that of a fault.
    pub error: String,
    pub message: String,
    /// Everything that was said, such as `currentEpoch`.
    pub body: Value,
    /// When it may be worth asking again.
    pub retry_after: Option<Duration>,
}

/// Why a call has no answer to work with.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error(transparent)]
    Refused(Box<Refused>),
    #[error("{nsid} has no answer, and may have happened: {why}")]
    Unanswered { nsid: &'static str, why: String },
    #[error("{nsid}: the answer is not what its lexicon says: {why}")]
    Unreadable { nsid: &'static str, why: String },
}

impl CallError {
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }

    /// Whether it was refused by that name.
    pub fn is(&self, error: &str) -> bool {
        self.refused().is_some_and(|refused| refused.error == error)
    }

    /// Whether the same call may go through in a moment.
    fn passes(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            // A server that crashed takes no tokens from before; the next one is younger.
            Self::Refused(refused) => matches!(refused.status, 408 | 429 | 502..=504) || refused.error == "JwtTooOld",
            Self::Unreadable { .. } => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.refused().and_then(|refused| refused.retry_after)
    }
}

/// The pauses between repeats, without an end: [`before`] ends them.
pub(crate) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1).with_jitter().without_max_times()
}

/// The pause, if another try would still begin in time. What the tries themselves take counts too.
pub(crate) fn before(until: Instant, pause: Duration) -> Option<Duration> {
    (Instant::now() + pause < until).then_some(pause)
}

/// No redirects, no proxy from the environment, bounded times.
#[expect(clippy::disallowed_methods, reason = "the one place that builds this crate's HTTP client")]
pub(crate) fn http_client() -> Result<reqwest::Client, CallError> {
    // Without a provider reqwest panics; an error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(TIMES.1)
        .timeout(TIMES.0);
    builder.build().map_err(|error| CallError::Unanswered { nsid: "", why: error.to_string() })
}

/// The body of a 200; everything else is an error. Without the URL: its query may name people.
pub(crate) async fn answer(nsid: &'static str, request: reqwest::RequestBuilder) -> Result<Value, CallError> {
    let lost = |error: reqwest::Error| CallError::Unanswered { nsid, why: error.without_url().to_string() };
    let response = request.send().await.map_err(lost)?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let bytes = response.bytes().await.map_err(lost)?;
    if status == 200 {
        return serde_json::from_slice(&bytes).map_err(|error| CallError::Unreadable { nsid, why: error.to_string() });
    }
    // A proxy between us and the server says no in words of its own: then the status is all there is.
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (error, message) = (text("error"), text("message"));
    Err(CallError::Refused(Box::new(Refused { nsid, status, error, message, body, retry_after })))
}

/// A token in the making; None for a call without one.
pub trait TokenFuture: Future<Output = Result<Option<String>, CallError>> + Send {}

impl<F: Future<Output = Result<Option<String>, CallError>> + Send> TokenFuture for F {}

/// A server. Shared by all who call it.
#[derive(Debug)]
pub struct Service {
    http: reqwest::Client,
    did: Did,
    url: RwLock<String>,
    patience: Duration,
    clock: Clock,
    repeats: AtomicU64,
}

impl Service {
    /// `url` is an origin like `http://127.0.0.1:3000`; `did` is what tokens name as their audience.
    pub fn new(url: &str, did: Did) -> Result<Self, CallError> {
        Ok(Self {
            http: http_client()?,
            did,
            url: RwLock::new(url.trim_end_matches('/').to_owned()),
            patience: PATIENCE,
            clock: Clock::System,
            repeats: AtomicU64::new(0),
        })
    }

    /// How long a call is repeated; zero for a single try.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The time that tokens are made with.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn did(&self) -> &Did {
        &self.did
    }

    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn url(&self) -> String {
        self.url.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server came back somewhere else.
    pub fn move_to(&self, url: &str) {
        url.trim_end_matches('/').clone_into(&mut self.url.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// How many calls were sent again so far.
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// Calls a query. `token` makes one for each try; None sends no token.
    pub async fn query<M: Method>(
        &self,
        params: &M::Params,
        token: impl Fn() -> Option<String>,
    ) -> Result<M::Output, CallError> {
        self.query_with::<M, _>(params, || std::future::ready(Ok(token()))).await
    }

    /// Calls a procedure.
    pub async fn procedure<M: Method>(
        &self,
        input: &M::Input,
        token: impl Fn() -> Option<String>,
    ) -> Result<M::Output, CallError> {
        self.procedure_with::<M, _>(input, || std::future::ready(Ok(token()))).await
    }

    /// The same with a token that somebody else makes.
    pub async fn query_with<M: Method, T: TokenFuture>(
        &self,
        params: &M::Params,
        token: impl Fn() -> T,
    ) -> Result<M::Output, CallError> {
        self.call::<M, T>(&query_of(params), &[], token, |_| None).await
    }

    /// The same with a token that somebody else makes.
    pub async fn procedure_with<M: Method, T: TokenFuture>(
        &self,
        input: &M::Input,
        token: impl Fn() -> T,
    ) -> Result<M::Output, CallError> {
        self.call::<M, T>("", &body_of::<M>(input)?, token, |_| None).await
    }

    /// The same with a device token beside the account's. `proof` makes one over the body, for each try.
    pub async fn procedure_proven<M: Method, T: TokenFuture>(
        &self,
        input: &M::Input,
        token: impl Fn() -> T,
        proof: impl Fn(&[u8]) -> String,
    ) -> Result<M::Output, CallError> {
        self.call::<M, T>("", &body_of::<M>(input)?, token, |body| Some(proof(body))).await
    }

    /// Calls a procedure with a token that is bound to the body.
    pub async fn procedure_bound<M: Method>(
        &self,
        input: &M::Input,
        token: impl Fn(&[u8]) -> String,
    ) -> Result<M::Output, CallError> {
        let body = body_of::<M>(input)?;
        let token = || std::future::ready(Ok(Some(token(&body))));
        self.call::<M, _>("", &body, token, |_| None).await
    }

    async fn call<M: Method, T: TokenFuture>(
        &self,
        query: &str,
        body: &[u8],
        token: impl Fn() -> T,
        proof: impl Fn(&[u8]) -> Option<String>,
    ) -> Result<M::Output, CallError> {
        let until = Instant::now() + self.patience;
        let attempt = || {
            let (token, proof) = (token(), proof(body));
            // Boxed, for every future of a caller holds this one.
            Box::pin(async move { self.attempt::<M>(query, body, token.await?, proof).await })
        };
        attempt
            .retry(pauses())
            .when(CallError::passes)
            .adjust(|error, pause| before(until, pause?.max(error.retry_after().unwrap_or_default())))
            .notify(|_, _| {
                self.repeats.fetch_add(1, Ordering::Relaxed);
            })
            .await
    }

    async fn attempt<M: Method>(
        &self,
        query: &str,
        body: &[u8],
        token: Option<String>,
        proof: Option<String>,
    ) -> Result<M::Output, CallError> {
        let nsid = M::NSID;
        let url = format!("{}/xrpc/{nsid}{query}", self.url());
        let mut request = match M::KIND {
            Kind::Procedure => {
                self.http.post(url).header(http::header::CONTENT_TYPE, "application/json").body(body.to_vec())
            }
            Kind::Query | Kind::Subscription => self.http.get(url),
        };
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(proof) = proof {
            request = request.header(DEVICE_TOKEN_HEADER, proof);
        }
        let body = answer(nsid, request).await?;
        schema::output(nsid, &body).map_err(|why| CallError::Unreadable { nsid, why: why.to_string() })?;
        serde_json::from_value(body).map_err(|why| CallError::Unreadable { nsid, why: why.to_string() })
    }
}

fn body_of<M: Method>(input: &M::Input) -> Result<Vec<u8>, CallError> {
    serde_json::to_vec(input)
        .map_err(|error| CallError::Unreadable { nsid: M::NSID, why: format!("the input: {error}") })
}

/// `?a=1&b=x&b=y`, or nothing.
pub(crate) fn query_of(params: &impl Serialize) -> String {
    let query = serde_json::to_value(params).map(|params| schema::query_string(&params)).unwrap_or_default();
    if query.is_empty() { query } else { format!("?{query}") }
}

/// The same address for a WebSocket.
pub(crate) fn socket_url(origin: &str, path_and_query: &str) -> Option<Url> {
    let mut url = Url::parse(origin).ok()?.join(path_and_query).ok()?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use rookery_protocol::lexicon::account::revoke_device::{Input, RevokeDevice};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn parameters_are_written_as_xrpc_reads_them() {
        #[derive(Serialize)]
        struct Params {
            limit: u64,
            kinds: Vec<&'static str>,
        }
        assert_eq!(
            query_of(&Params { limit: 5, kinds: vec!["#message", "a b"] }),
            "?limit=5&kinds=%23message&kinds=a+b"
        );
        assert_eq!(query_of(&rookery_protocol::lexicon::Nothing {}), "");
    }

    #[test]
    fn a_socket_goes_to_the_same_place() {
        let url = socket_url("http://127.0.0.1:3000", "/xrpc/a.b.c?cursor=0").unwrap();
        assert_eq!(url.as_str(), "ws://127.0.0.1:3000/xrpc/a.b.c?cursor=0");
    }

    const SLOW: Duration = Duration::from_millis(400);

    /// A server that gives these answers one after the other, and then slowly hangs up. Counts the calls.
    async fn answering(answers: &'static [&'static str]) -> (Service, std::sync::Arc<AtomicU64>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = std::sync::Arc::new(AtomicU64::new(0));
        let counted = std::sync::Arc::clone(&calls);
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let _asked = connection.read(&mut [0; 4096]).await.unwrap();
                let call = counted.fetch_add(1, Ordering::SeqCst);
                match answers.get(usize::try_from(call).unwrap()) {
                    Some(answer) => connection.write_all(answer.as_bytes()).await.unwrap(),
                    None => tokio::time::sleep(SLOW).await,
                }
            }
        });
        (Service::new(&url, Did::parse("did:web:localhost").unwrap()).unwrap(), calls)
    }

    const DESCRIBED: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    const BAD_GATEWAY: &str = "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 6\r\n\r\n<html>";
    const IN_AN_HOUR: &str =
        "HTTP/1.1 429 Too Many\r\nconnection: close\r\nretry-after: 3600\r\ncontent-length: 2\r\n\r\n{}";

    async fn revoke(service: &Service) -> Result<(), CallError> {
        let input = Input { device: "dev_x".to_owned(), revocation: None };
        service.procedure::<RevokeDevice>(&input, || None).await.map(|_| ())
    }

    #[tokio::test]
    async fn what_a_proxy_says_in_its_own_words_is_repeated_by_its_status() {
        let (service, calls) = answering(&[BAD_GATEWAY, DESCRIBED]).await;
        revoke(&service).await.unwrap();
        assert_eq!((calls.load(Ordering::SeqCst), service.repeats()), (2, 1));
    }

    #[tokio::test]
    async fn patience_counts_what_the_tries_take_and_is_not_stretched_by_the_server() {
        let (service, calls) = answering(&[IN_AN_HOUR]).await;
        assert!(revoke(&service).await.unwrap_err().refused().is_some_and(|refused| refused.status == 429));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let (service, calls) = answering(&[]).await;
        let service = service.with_patience(SLOW / 2);
        assert!(matches!(revoke(&service).await, Err(CallError::Unanswered { .. })));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn only_what_may_go_through_in_a_moment_is_repeated() {
        let refused = |status, error: &str| {
            let (error, message) = (error.to_owned(), String::new());
            CallError::Refused(Box::new(Refused {
                nsid: "a.b.c",
                status,
                error,
                message,
                body: Value::Null,
                retry_after: None,
            }))
        };
        assert!(refused(503, "Unavailable").passes() && refused(401, "JwtTooOld").passes());
        assert!(
            refused(408, "BodyTooSlow").passes()
                && refused(429, "RateLimitExceeded").passes()
                && refused(502, "UpstreamFailure").passes()
        );
        assert!(CallError::Unanswered { nsid: "a.b.c", why: String::new() }.passes());
        assert!(!refused(409, "StaleEpoch").passes() && !refused(401, "ReplayedToken").passes());
        assert!(!refused(500, "InternalServerError").passes());
    }
}
