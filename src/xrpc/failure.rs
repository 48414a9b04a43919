//! Every failure has a name. `Named` is the method's own, declared in its lexicon; `Fault` is one closed set for all.

mod fault;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use self::fault::body;
use super::observe::Told;
use crate::log::StreamState;
use crate::types::{Malformed, Named, Refusal};
use crate::{log, storage};

pub use self::fault::Fault;

/// The failure that a method answers instead of its output.
#[derive(Debug)]
pub enum Failure<E> {
    Named(E),
    Fault(Fault),
}

impl<E> From<Fault> for Failure<E> {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// An engine's refusal becomes the method's own error of that name. A name that the lexicon does not declare is our
/// mistake, and answered as one.
impl<E: Named> From<Refusal> for Failure<E> {
    fn from(refusal: Refusal) -> Self {
        match E::from_name(refusal.name, refusal.detail.clone()) {
            Some(named) => Self::Named(named),
            None => Self::Fault(Fault::internal(refusal)),
        }
    }
}

impl<E> From<storage::Error> for Failure<E> {
    fn from(error: storage::Error) -> Self {
        Self::Fault(error.into())
    }
}

impl<E> From<sqlx::Error> for Failure<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(storage::Error::from(error).into())
    }
}

impl<E> From<Malformed> for Failure<E> {
    fn from(malformed: Malformed) -> Self {
        Self::Fault(Fault::InvalidRequest(malformed.to_string()))
    }
}

impl<E> From<log::chain::NotCanonical> for Failure<E> {
    fn from(error: log::chain::NotCanonical) -> Self {
        Self::Fault(Fault::internal(error))
    }
}

impl<E: Named> From<log::Error> for Failure<E> {
    fn from(error: log::Error) -> Self {
        match error {
            // It went to another home while this was judged: the same call again goes there.
            log::Error::Refused(refusal)
                if refusal.name == "NotHome" && E::from_name("NotHome", "".into()).is_none() =>
            {
                Self::Fault(Fault::Halted(StreamState::Handing))
            }
            log::Error::Refused(refusal) => refusal.into(),
            log::Error::Halted(state) => Self::Fault(Fault::Halted(state)),
            error => Self::Fault(Fault::of_log(error)),
        }
    }
}

impl<E: Named> Failure<E> {
    /// Name and sentence, as the client sees them.
    pub fn told(&self) -> (&'static str, String) {
        match self {
            Self::Named(error) => (error.name(), error.detail().message.clone()),
            Self::Fault(fault) => (fault.name(), fault.message()),
        }
    }

    /// Whether the whole transaction may simply be run again.
    pub fn is_collision(&self) -> bool {
        matches!(self, Self::Fault(Fault::Collided))
    }
}

impl<E: Named> IntoResponse for Failure<E> {
    fn into_response(self) -> Response {
        match self {
            Self::Fault(fault) => fault.into_response(),
            Self::Named(error) => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let mut response = (status, axum::Json(body(error.name(), error.detail()))).into_response();
                // For a temporary error, the message and the values say when to try again.
                if let Some(seconds) = error.detail().data.get("retryAfter").and_then(Value::as_u64) {
                    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
                }
                response.extensions_mut().insert(Told(error.name()));
                response
            }
        }
    }
}
