//! The errors that any method may answer instead of its output: one closed set for all methods.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::federation::joining::whereabouts::NotLocated;
use crate::federation::{HomeUnverified, PeerRefused, TooManyLookups};
use crate::identity::TokenRefused;
use crate::log::chain::CONTENT_BYTES;
use crate::log::{self, AuthorState, StreamState};
use crate::quota::QuotaExceeded;
use crate::storage::{self, SharedError};
use crate::telemetry::metric_name;
use crate::types::Detail;
use crate::xrpc::Denied;
use crate::xrpc::limits::BodyRefused;
use crate::xrpc::observe::Told;

/// An error that any method may answer instead of its output.
#[derive(Debug)]
pub enum Fault {
    /// 400: a parameter, the body or a header is not what the lexicon says.
    InvalidRequest(String),
    /// 400: a body of another encoding than the lexicon's, which the value names.
    UnsupportedEncoding(&'static str),
    /// 400, 401, 403, 429 or 503: a refused request of a peer, with the name of the broken rule.
    Peer(PeerRefused),
    /// 404: the stream does not exist, or the account sees no seat in it.
    StreamNotFound,
    /// 403: another server orders this stream; a peer calls that server.
    NotHome { home: String },
    /// 409: another server orders this stream since it moved there; a peer calls that server.
    HomeMoved { home: String },
    /// 502: the home was unreachable, or could not answer. The call had no effect.
    HomeUnavailable,
    /// 502: the home refuses requests of this server. The call had no effect.
    FederationRefused,
    /// 504: the home got the call and did not answer: repeat the call with its `idem`.
    OutcomeUnknown,
    /// 401, or 503 where this server cannot check the token: the caller is not authenticated. The value names the
    /// broken rule.
    Unauthenticated(TokenRefused),
    /// 403: the caller is authenticated, and may not call this method with any input.
    Denied(Denied),
    /// 413: the body has more bytes than this method accepts.
    PayloadTooLarge { limit_bytes: usize },
    /// 429: more calls than this account, or this address, may make now.
    RateLimited { retry_after_s: u64 },
    /// 403: the account, its domain or the conversation makes this server keep as much as it may.
    QuotaExceeded(QuotaExceeded),
    /// 429: too many deliveries of this account wait for other servers.
    DeliveriesWait,
    /// 429: too many calls of this device, account or address are in flight.
    TooManyInFlight,
    /// 408, 429 or 503: the body arrived too slowly, or there is no room for it now.
    Body(BodyRefused),
    /// 501: this server does not offer the method, by configuration or because it is not implemented.
    NotConfigured(&'static str),
    /// 501: an unknown kind of delivery or of change, which a later version may know.
    KindNotImplemented,
    /// 501: no such method.
    MethodNotImplemented,
    /// 502: the upstream server of this method gave no answer.
    UpstreamFailed,
    /// 409, or 503 where the state is temporary: the stream accepts no entries now, or never again.
    Halted(StreamState),
    /// 409: followers of the stream, which the value names, run a version that does not know this kind of entry.
    FollowersOutdated(Vec<String>),
    /// 503: a queue is full, the database is unreachable, or the server is stopping. The call may have had an effect:
    /// repeat it with its `idem`.
    Unavailable,
    /// 503: the disk of the database has little or no room. Nothing was written; reads and revocations go on.
    StorageFull,
    /// 503: every core was busy for too long. The call had no effect.
    Busy,
    /// 503: the transaction collided with others at every attempt. Nothing was written.
    Collided,
    /// 504: the call took too long. Repeat it with its `idem`.
    TimedOut,
    /// 500: an internal error. The server logs the cause and does not show it.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Seconds after which a client may try again.
const RETRY_AFTER_S: u64 = 1;
/// Seconds after which a client may try again where the operator must make room first.
const ROOM_AFTER_S: u64 = 30;
const DELIVERIES_RETRY_AFTER_S: u64 = 60;

impl Fault {
    fn told(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "InvalidRequest", why.clone()),
            Self::UnsupportedEncoding(expected) => (
                StatusCode::BAD_REQUEST,
                "InvalidRequest",
                format!("Wrong request encoding: send Content-Type {expected}, without Content-Encoding"),
            ),
            Self::Peer(refused) => (
                StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::UNAUTHORIZED),
                refused.name(),
                refused.to_string(),
            ),
            Self::StreamNotFound => {
                let why = "there is no such stream, or the account has no seat in it";
                (StatusCode::NOT_FOUND, "StreamNotFound", why.to_owned())
            }
            Self::NotHome { .. } => {
                (StatusCode::FORBIDDEN, "NotHome", "another server orders this stream".to_owned())
            }
            Self::HomeMoved { .. } => {
                (StatusCode::CONFLICT, "HomeMoved", "another server orders this stream now".to_owned())
            }
            Self::HomeUnavailable => (
                StatusCode::BAD_GATEWAY,
                "HomeUnavailable",
                "the server that orders this stream cannot be reached; nothing was done".to_owned(),
            ),
            Self::FederationRefused => (
                StatusCode::BAD_GATEWAY,
                "FederationRefused",
                "the server that orders this stream does not take this server's word; nothing was done".to_owned(),
            ),
            Self::OutcomeUnknown => (
                StatusCode::GATEWAY_TIMEOUT,
                "OutcomeUnknown",
                "the server that orders this stream gave no answer, and it may have happened; repeat it with the same idem"
                    .to_owned(),
            ),
            Self::Unauthenticated(refused) => (
                StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::UNAUTHORIZED),
                refused.name(),
                refused.to_string(),
            ),
            Self::Denied(denied) => (StatusCode::FORBIDDEN, denied.name(), denied.to_string()),
            Self::PayloadTooLarge { limit_bytes } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "PayloadTooLarge",
                format!("the body may hold {limit_bytes} bytes at most"),
            ),
            Self::QuotaExceeded(exceeded) => (
                StatusCode::FORBIDDEN,
                "QuotaExceeded",
                format!("{exceeded}; delete something, or ask the operator for more"),
            ),
            Self::RateLimited { retry_after_s } => (
                StatusCode::TOO_MANY_REQUESTS,
                "RateLimitExceeded",
                format!("too many calls; try again in {retry_after_s} s"),
            ),
            Self::DeliveriesWait => (
                StatusCode::TOO_MANY_REQUESTS,
                "RateLimitExceeded",
                "200 notices of this account to other servers wait already, or 2,000 were sent in 30 days; try again later"
                    .to_owned(),
            ),
            Self::TooManyInFlight => (
                StatusCode::TOO_MANY_REQUESTS,
                "RateLimitExceeded",
                "too many calls at one time; try again when an earlier one is answered".to_owned(),
            ),
            Self::Body(refused) => {
                let (status, name) = match refused {
                    BodyRefused::TooSlow => (StatusCode::REQUEST_TIMEOUT, "BodyTooSlow"),
                    BodyRefused::ShareHeld => (StatusCode::TOO_MANY_REQUESTS, "RateLimitExceeded"),
                    BodyRefused::AllHeld => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
                };
                (status, name, format!("{refused}; nothing was done"))
            }
            Self::NotConfigured(what) => {
                (StatusCode::NOT_IMPLEMENTED, "NotConfigured", format!("this server does not offer {what}"))
            }
            Self::KindNotImplemented => (
                StatusCode::NOT_IMPLEMENTED,
                "KindNotImplemented",
                "this server does not know that kind of delivery, or that change: it may be older than the caller"
                    .to_owned(),
            ),
            Self::MethodNotImplemented => {
                (StatusCode::NOT_IMPLEMENTED, "MethodNotImplemented", "Method Not Implemented".to_owned())
            }
            Self::UpstreamFailed => {
                (StatusCode::BAD_GATEWAY, "UpstreamFailure", "the upstream server gave no answer".to_owned())
            }
            Self::Halted(state) => halted(*state),
            Self::FollowersOutdated(servers) => (
                StatusCode::CONFLICT,
                "FollowersOutdated",
                format!("{} must be upgraded before the stream takes this kind of entry", servers.join(", ")),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Busy",
                "every core of this server is busy with work such as this; nothing was done, try again".to_owned(),
            ),
            Self::Unavailable | Self::Collided => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Unavailable",
                "the server cannot do this now; repeat it with the same idem".to_owned(),
            ),
            Self::StorageFull => (
                StatusCode::SERVICE_UNAVAILABLE,
                "StorageFull",
                "the server has no room for writes; reading and revoking go on, and this may be repeated later".to_owned(),
            ),
            Self::TimedOut => (
                StatusCode::GATEWAY_TIMEOUT,
                "TimedOut",
                "it took too long, and may have happened; repeat it with the same idem".to_owned(),
            ),
            Self::Internal(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal Server Error".to_owned())
            }
        }
    }

    /// The error's name in the answer.
    pub fn name(&self) -> &'static str {
        self.told().1
    }

    /// The error's message in the answer.
    pub fn message(&self) -> String {
        self.told().2
    }

    pub fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

fn halted(state: StreamState) -> (StatusCode, &'static str, String) {
    let status = if state.is_over() { StatusCode::CONFLICT } else { StatusCode::SERVICE_UNAVAILABLE };
    let message = match state {
        StreamState::Active | StreamState::Recovering => {
            "the home is putting lost entries back; repeat it with the same idem"
        }
        StreamState::NeedsNewerVersion => {
            "an entry of the stream needs a newer version of this server; repeat the call with the same idem after the upgrade"
        }
        StreamState::Handing => "the stream is being handed to another home; repeat it with the same idem",
        StreamState::Frozen => "the stream is frozen, because its home said two different things; go on by a reset",
        StreamState::Closed => "another stream has taken the place of this one",
    };
    (status, state.refuses().unwrap_or("Unavailable"), message.to_owned())
}

impl Fault {
    /// The fault for an error of the log that the method does not name itself.
    pub(in crate::xrpc) fn of_log(error: log::Error) -> Self {
        match error {
            log::Error::Busy => Self::Unavailable,
            log::Error::Overtaken => Self::Collided,
            log::Error::QuotaExceeded(exceeded) => Self::QuotaExceeded(exceeded),
            log::Error::AuthorEnded(AuthorState::AccountSuspended) => Denied::AccountSuspended.into(),
            log::Error::AuthorEnded(_) => TokenRefused::DeviceRevoked.into(),
            log::Error::ContentTooLarge { .. } => Self::PayloadTooLarge { limit_bytes: CONTENT_BYTES },
            log::Error::FollowersOutdated(servers) => Self::FollowersOutdated(servers),
            log::Error::Storage(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<storage::Error> for Fault {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Collision(_) => Self::Collided,
            storage::Error::Unavailable(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database could not be used");
                Self::Unavailable
            }
            storage::Error::Full(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the database has no room");
                Self::StorageFull
            }
            error => Self::internal(error),
        }
    }
}

/// The error was logged once, for all calls that shared the statement.
impl From<SharedError> for Fault {
    fn from(error: SharedError) -> Self {
        let SharedError::Failed(error) = error else { return Self::Unavailable };
        match *error {
            storage::Error::Collision(_) => Self::Collided,
            storage::Error::Unavailable(_) => Self::Unavailable,
            storage::Error::Full(_) => Self::StorageFull,
            _ => Self::internal(error),
        }
    }
}

impl From<PeerRefused> for Fault {
    fn from(refused: PeerRefused) -> Self {
        Self::Peer(refused)
    }
}

impl From<TooManyLookups> for Fault {
    fn from(TooManyLookups { retry_after_s }: TooManyLookups) -> Self {
        metrics::counter!(metric_name::RATE_REFUSALS, "limit" => "lookup").increment(1);
        Self::RateLimited { retry_after_s }
    }
}

impl From<NotLocated> for Fault {
    fn from(why: NotLocated) -> Self {
        match why {
            NotLocated::TooManyLookups(spent) => spent.into(),
            NotLocated::Unverified(unverified) => unverified.into(),
        }
    }
}

impl From<HomeUnverified> for Fault {
    fn from(_: HomeUnverified) -> Self {
        Self::Peer(PeerRefused::HomeUnverified)
    }
}

impl From<TokenRefused> for Fault {
    fn from(refused: TokenRefused) -> Self {
        Self::Unauthenticated(refused)
    }
}

impl From<Denied> for Fault {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

pub(super) fn body(name: &str, detail: &Detail) -> Value {
    let mut body: Map<String, Value> = detail.data.clone();
    body.insert("error".to_owned(), json!(name));
    body.insert("message".to_owned(), json!(detail.message));
    Value::Object(body)
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, name, message) = self.told();
        if let Self::Internal(error) = &self {
            // Logged once, with its causes; the span has the request id.
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::error!(error, "a request failed by our own mistake");
        }
        let mut detail = Detail::new(message);
        if let Self::QuotaExceeded(QuotaExceeded { quota, limit }) = &self {
            detail = detail.with("quota", quota.name()).with("limit", *limit);
        }
        if let Self::NotHome { home } | Self::HomeMoved { home } = &self {
            detail = detail.with("home", home.as_str());
        }
        let mut response = (status, axum::Json(body(name, &detail))).into_response();
        if let Self::Peer(refused) = &self {
            metrics::counter!(metric_name::PEER_REFUSALS, "error" => refused.name()).increment(1);
            if let PeerRefused::RateLimited { retry_after_s } = refused {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
            }
        }
        if let Self::RateLimited { retry_after_s } = &self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*retry_after_s));
        }
        let passes = matches!(
            self,
            Self::TimedOut | Self::OutcomeUnknown | Self::TooManyInFlight | Self::Body(_) | Self::DeliveriesWait
        );
        if passes || status == StatusCode::SERVICE_UNAVAILABLE {
            let seconds = match &self {
                Self::StorageFull => ROOM_AFTER_S,
                Self::DeliveriesWait => DELIVERIES_RETRY_AFTER_S,
                Self::Unauthenticated(refused) => refused.retry_after_s().unwrap_or(RETRY_AFTER_S),
                _ => RETRY_AFTER_S,
            };
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::Unauthenticated(refused) = &self {
            metrics::counter!(metric_name::AUTH_REFUSALS, "error" => refused.name()).increment(1);
        }
        if status == StatusCode::UNAUTHORIZED
            && !matches!(self, Self::Peer(_))
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer error=\"{name}\""))
        {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
        response.extensions_mut().insert(Told(name));
        response
    }
}
