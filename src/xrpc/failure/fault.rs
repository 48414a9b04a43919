//! What any method may answer instead of its output: one closed set for all methods.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::federation::joining::whereabouts::NotLocated;
use crate::federation::{HomeUnverified, PeerRefused, TooManyLookups};
use crate::identity::TokenRefused;
use crate::log::{self, StreamState};
use crate::storage;
use crate::telemetry::metric_name;
use crate::types::Detail;
use crate::xrpc::Denied;
use crate::xrpc::limits::BodyRefused;
use crate::xrpc::observe::Told;

/// What any method may answer instead of its output.
#[derive(Debug)]
pub enum Fault {
    /// 400: a parameter, the body or a header is not what the lexicon says.
    InvalidRequest(String),
    /// 400: a body of another encoding than the lexicon's, which this is.
    UnsupportedEncoding(&'static str),
    /// 400, 401, 403, 429 or 503: a signed request that is refused, with the name of the rule that it broke.
    Peer(PeerRefused),
    /// 404: for an account that sees no seat in it, a stream does not exist.
    StreamNotFound,
    /// 403: another server orders this stream; a peer asks that one.
    NotHome { home: String },
    /// 409: another server orders this stream, since it went there from here; a peer asks that one.
    HomeMoved { home: String },
    /// 502: the home was not reached, or could not answer. Nothing was done.
    HomeUnavailable,
    /// 502: the home does not take this server's word. Nothing was done.
    FederationRefused,
    /// 504: sent to the home, and no answer came: repeat with the same `idem`.
    OutcomeUnknown,
    /// 401, or 503 where only we cannot tell: the caller is not proven, with the name of the rule that it broke.
    Unauthenticated(TokenRefused),
    /// 403: the caller is proven, and may not call this whatever it says.
    Denied(Denied),
    /// 413: more bytes than this method takes.
    PayloadTooLarge { limit_bytes: usize },
    /// 429: more calls than this account, or this address, may make now.
    RateLimited { retry_after_s: u64 },
    /// 429: as much of this account waits for other servers as may wait.
    DeliveriesWait,
    /// 429: as many calls of this device, account or address as may be are in flight.
    TooManyInFlight,
    /// 408, 429 or 503: the body came too slowly, or there is no room for it now.
    Body(BodyRefused),
    /// 501: this server does not do that, by configuration or not yet.
    NotConfigured(&'static str),
    /// 501: no such kind of delivery, or of change: a later version may know it.
    KindNotImplemented,
    /// 501: no such method.
    MethodNotImplemented,
    /// 502: the server that this method was handed on to gave no answer.
    UpstreamFailed,
    /// 409, or 503 where it passes: the stream takes no entries now, or never again.
    Halted(StreamState),
    /// 409: followers of the stream, which are named, run a version that does not know this kind of entry.
    FollowersOutdated(Vec<String>),
    /// 503: a queue is full, the database is away, or the server is stopping. Nothing was done, or it cannot be told:
    /// repeat with the same `idem`.
    Unavailable,
    /// 503: the disk of the database has no room, or little: nothing was written. Reads and revocations go on.
    StorageFull,
    /// 503: every core was busy for too long; nothing was done.
    Busy,
    /// 503: the transaction collided with others, more often than it is tried again. Nothing was written.
    Collided,
    /// 504: it took too long. Repeat with the same `idem`.
    TimedOut,
    /// 500: our mistake. The cause is logged, not told.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Seconds after which a client may try again.
const RETRY_AFTER_S: u64 = 1;
/// The same where somebody has to make room first.
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

    /// The name that the client sees.
    pub fn name(&self) -> &'static str {
        self.told().1
    }

    /// The sentence that the client sees.
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
    /// Of the log, where no method has a name for it.
    pub(in crate::xrpc) fn of_log(error: log::Error) -> Self {
        match error {
            log::Error::Busy => Self::Unavailable,
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
            // Once, with its chain; the request id is in the span.
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::error!(error, "a request failed by our own mistake");
        }
        let mut detail = Detail::new(message);
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
