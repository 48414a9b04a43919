//! From a request to a method's typed parts.

use axum::body::Body;
use http::HeaderMap;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{BodyRefused, Failure, Fault, Services, unique_json};
use crate::lexicon::{Method, schema};
use crate::limit::CpuBusy;
use crate::log::{Author, CallIdentity};
use crate::types::{Hash, Idem, Malformed};

/// A method's checked parameters and input.
#[derive(Debug)]
pub struct Call<M: Method> {
    pub params: M::Params,
    pub input: M::Input,
    /// SHA-256 of the body bytes as received.
    pub request_hash: Hash,
    /// The body bytes as received.
    pub body: bytes::Bytes,
}

impl<M: Method> Call<M> {
    /// This call's name for itself, from its `idem` and its bytes.
    pub fn identity(&self, author: &Author, idem: &str) -> Result<CallIdentity, Failure<M::Error>> {
        let idem = Idem::parse(idem)?;
        Ok(CallIdentity::new(author, M::NSID, &idem, self.request_hash)?)
    }
}

/// Reads a value that the lexicon can only call a string.
pub fn parse<T, E>(read: impl FnOnce(&str) -> Result<T, Malformed>, text: &str) -> Result<T, Failure<E>> {
    Ok(read(text)?)
}

/// Runs CPU-bound work (MLS signatures, the replay of a chain) on a core of its own, beside the threads that serve
/// requests. A call that finds every core busy waits, and then fails with 503.
pub async fn blocking<T>(cx: &Services, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault>
where
    T: Send + 'static,
{
    cx.cpu.run(work).await.map_err(|error| match error {
        CpuBusy::Busy => Fault::Busy,
        // A panic of a library over a malformed message ends this request alone.
        CpuBusy::Broken(_) => Fault::internal(error),
    })
}

pub(super) fn params<M: Method>(query: &str) -> Result<M::Params, Fault> {
    let value = schema::params(M::NSID, query).map_err(|violation| Fault::InvalidRequest(violation.to_string()))?;
    serde_json::from_value(value).map_err(|_| Fault::InvalidRequest("params: not of this method's shape".to_owned()))
}

pub(super) fn input<M: Method>(bytes: &[u8]) -> Result<M::Input, Fault> {
    if M::DAG_CBOR {
        // The method has no JSON input: it reads the bytes.
        return serde_json::from_value(serde_json::json!({})).map_err(Fault::internal);
    }
    let mut value = unique_json::read(bytes).map_err(|why| Fault::InvalidRequest(format!("input: {why}")))?;
    schema::input(M::NSID, &mut value).map_err(|violation| Fault::InvalidRequest(violation.to_string()))?;
    serde_json::from_value(value).map_err(|_| Fault::InvalidRequest("input: not of this method's shape".to_owned()))
}

/// The whole body, if it has no more than `limit_bytes`.
pub(super) async fn read_body(body: Body, limit_bytes: usize) -> Result<bytes::Bytes, Fault> {
    match Limited::new(body, limit_bytes).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match find_cause(error.as_ref()) {
            Some(Cause::TooLong) => Fault::PayloadTooLarge { limit_bytes },
            Some(Cause::Refused(refused)) => Fault::Body(refused),
            None => Fault::InvalidRequest("the body broke off".to_owned()),
        }),
    }
}

/// Why a body ended early.
enum Cause {
    /// The body is beyond the method's limit, or beyond the limit for every body.
    TooLong,
    Refused(BodyRefused),
}

fn find_cause(error: &(dyn std::error::Error + 'static)) -> Option<Cause> {
    if error.is::<LengthLimitError>() {
        return Some(Cause::TooLong);
    }
    let refused = error.downcast_ref::<BodyRefused>().map(|refused| Cause::Refused(*refused));
    refused.or_else(|| error.source().and_then(find_cause))
}

/// A query has parameters and nothing else.
pub(super) fn refuse_body(headers: &HeaderMap) -> Result<(), Fault> {
    let announced = headers.get(http::header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if announced || headers.contains_key(http::header::TRANSFER_ENCODING) {
        return Err(Fault::InvalidRequest("a query takes no body".to_owned()));
    }
    Ok(())
}

/// Checks that the body has the method's encoding, uncompressed.
pub(super) fn check_encoding<M: Method>(headers: &HeaderMap) -> Result<(), Fault> {
    let expected = if M::DAG_CBOR { "application/vnd.ipld.dag-cbor" } else { "application/json" };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content_type = text(http::header::CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let plain = text(http::header::CONTENT_ENCODING).is_none_or(|encoding| encoding.eq_ignore_ascii_case("identity"));
    if media_type.eq_ignore_ascii_case(expected) && plain { Ok(()) } else { Err(Fault::UnsupportedEncoding(expected)) }
}
