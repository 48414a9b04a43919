//! Handing a call on to the server that orders its stream (docs/FEDERATION.md, "Forwarded calls").
//!
//! Invariants: no client names a host, the stream's own row does; the server forwards nothing for an account that sees
//! no seat in the stream, and no call that came from a peer; the body goes on byte for byte; the client learns whether
//! the call took effect, did not, or may have. No home keeps an account that leaves: where the home does not accept the
//! call, this server carries it out.

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::Behalf;
use super::{Fault, Services};
use crate::federation::replica::Next;
use crate::federation::{Actor, CallError, PeerRefused, PeerRequest, refused_answer};
use crate::identity::Signed;
use crate::lexicon::mls::leave_convo::LeaveConvo;
use crate::lexicon::{Forward, Kind, Method};
use crate::log::chain::{CHECKPOINT_LABEL, Checkpoint};
use crate::log::{Head, StreamState};
use crate::types::{self, Did, Hash, Seq, StreamId, Term};

/// Errors of a home that are about this server, not about the call.
const ABOUT_US: &[&str] =
    &["FederationOff", "PeerBlocked", "PeerPending", "PeerKeyHeld", "NotSpokenFor", "ActorNotAllowed"];
/// A home that just lost its memory of used signatures takes one of the next second.
const MEMORY_LOST: Duration = Duration::from_millis(1100);
/// Time that is kept of a request's time-out to answer the client.
const MARGIN: Duration = Duration::from_millis(250);

/// The answer of the stream's home, if that is another server; nothing if the call is to be judged here.
pub(super) async fn elsewhere<M: Method>(
    cx: &Services,
    caller: Option<Behalf<'_>>,
    parts: &Parts,
    body: &Bytes,
) -> Result<Option<Response>, Fault> {
    let (Some(Forward::Home), Some(caller)) = (M::FORWARD, caller) else { return Ok(None) };
    let query = parts.uri.query().unwrap_or_default();
    let stream = if M::KIND == Kind::Procedure { stream_of_body(body) } else { stream_of_query(query) };
    let Some(stream) = stream else { return Ok(None) };
    let elsewhere = async || {
        let found = cx.log.find_stream(&stream).await.map_err(Fault::of_log)?;
        let found = found.map(|stream| (stream.id, stream.home.clone()));
        Ok::<_, Fault>(found.filter(|(_, home)| home != cx.log.home().as_str()))
    };
    let Some((mut stream_id, mut home)) = elsewhere().await? else { return Ok(None) };
    if caller.by_peer {
        // It may have come here a moment ago, on another replica of this server.
        cx.log.forget_stream(&stream);
        let Some(found) = elsewhere().await? else { return Ok(None) };
        (stream_id, home) = found;
        let went = cx.replicas.went_elsewhere(stream_id).await.map_err(Fault::of_log)?;
        return Err(if went { Fault::HomeMoved { home } } else { Fault::NotHome { home } });
    }
    let leaves = M::NSID == LeaveConvo::NSID;
    if !leaves && cx.log.windows(stream_id, caller.account_id).await.map_err(Fault::of_log)?.is_empty() {
        return Err(Fault::StreamNotFound);
    }
    if leaves && is_immediate(body) {
        return Ok(None);
    }
    if M::KIND == Kind::Procedure {
        // A stream that is frozen here takes nothing, whatever its home would say.
        let state = cx.log.row(stream_id).await.map_err(Fault::of_log)?.state;
        if state.is_over() {
            return if leaves { Ok(None) } else { Err(Fault::Halted(state)) };
        }
    }
    let mut home = Did::parse(&home).map_err(Fault::internal)?;
    let request = || PeerRequest {
        nsid: M::NSID,
        kind: M::KIND,
        query,
        body: if M::KIND == Kind::Procedure { body.clone() } else { Bytes::new() },
        content_type: (M::KIND == Kind::Procedure).then_some("application/json"),
        actor: Some(Actor { account: caller.account, device: Some(caller.device.as_str()) }),
    };
    let exchange = async {
        let mut answer = cx.federation.exchange(&home, request()).await;
        if matches!(&answer, Ok(answer) if refused_answer(answer).is("SignatureExpired")) {
            tokio::time::sleep(MEMORY_LOST).await;
            answer = cx.federation.exchange(&home, request()).await;
        }
        // Another home is named: it is asked once, if the stream's lineage leads to it.
        let named = answer.as_ref().ok().and_then(|answer| refused_answer(answer).named_home().cloned());
        if let Some(named) = named {
            match cx.replicas.next_home(&stream, &home, &named).await.map_err(Fault::of_log)? {
                Next::Here => return Ok(None),
                Next::At => {
                    home = named;
                    answer = cx.federation.exchange(&home, request()).await;
                }
                // It may be a moment before the next home orders, and shows that it does.
                Next::Unknown => return Err(Fault::Halted(StreamState::Handing)),
            }
        }
        if leaves && matches!(&answer, Ok(answer) if keeps(&refused_answer(answer))) {
            return Ok(None);
        }
        told(cx, caller, &home, &stream, answer).await.map(Some)
    };
    // Before the request as a whole runs out of time, so that the client learns the outcome.
    let in_all = cx.config.http.request_timeout;
    let patience = if leaves { in_all / 2 } else { in_all.saturating_sub(MARGIN) };
    match tokio::time::timeout(patience, exchange).await.unwrap_or(Err(Fault::OutcomeUnknown)) {
        Err(_) if leaves => Ok(None),
        answered => answered,
    }
}

/// Whether the home's refusal of a leave concerns its stream, which orders nothing any more, or a seat that the home
/// has ended or never knew.
fn keeps(refused: &CallError) -> bool {
    ["StreamFrozen", "StreamNotFound", "NotMember"].into_iter().any(|name| refused.is(name))
}

/// Whether the call asks to leave without asking the home first.
fn is_immediate(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Wish {
        #[serde(default)]
        immediate: bool,
    }
    serde_json::from_slice::<Wish>(body).is_ok_and(|wish| wish.immediate)
}

/// The answer to the client.
async fn told(
    cx: &Services,
    caller: Behalf<'_>,
    home: &Did,
    stream: &str,
    answer: Result<http::Response<Bytes>, CallError>,
) -> Result<Response, Fault> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(CallError::NotSent("federation is off")) => return Err(PeerRefused::FederationOff.into()),
        Err(CallError::NotSent(why)) => {
            tracing::info!(peer = home.as_str(), why, "a call was not handed on");
            return Err(Fault::HomeUnavailable);
        }
        Err(_) => return Err(Fault::OutcomeUnknown),
    };
    let status = answer.status();
    match status.as_u16() {
        200 => {
            receipt(cx, caller, home, stream, &answer).await?;
            Ok(plain(status, answer.into_body()))
        }
        504 => Err(Fault::OutcomeUnknown),
        500..=599 => Err(Fault::HomeUnavailable),
        401 => Err(refused_us(home, &answer)),
        429 => {
            let retry_after = answer.headers().get(header::RETRY_AFTER).cloned();
            let mut told = plain(status, answer.into_body());
            told.headers_mut().insert(header::RETRY_AFTER, retry_after.unwrap_or(HeaderValue::from_static("1")));
            Ok(told)
        }
        _ if matches!(refused_answer(&answer), CallError::Refused { error, .. } if ABOUT_US.contains(&error.as_str())) => {
            Err(refused_us(home, &answer))
        }
        _ => Ok(plain(status, answer.into_body())),
    }
}

fn refused_us(home: &Did, answer: &http::Response<Bytes>) -> Fault {
    if let CallError::Refused { status, error, .. } = refused_answer(answer) {
        tracing::error!(peer = home.as_str(), status, error, "the home of a stream does not take this server's word");
    }
    Fault::FederationRefused
}

/// The home's answer, unchanged.
fn plain(status: StatusCode, body: Bytes) -> Response {
    let mut response = (status, body).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A home that says that it put an entry somewhere has signed for it.
async fn receipt(
    cx: &Services,
    caller: Behalf<'_>,
    home: &Did,
    stream: &str,
    answer: &http::Response<Bytes>,
) -> Result<(), Fault> {
    #[derive(Deserialize)]
    struct Answered {
        term: Term,
        seq: Seq,
        hash: types::Bytes,
        receipt: Option<Signed>,
    }
    // What puts no entry anywhere has no receipt.
    let Ok(answered) = serde_json::from_slice::<Answered>(answer.body()) else { return Ok(()) };
    let receipt = answered.receipt.ok_or(Fault::OutcomeUnknown)?;
    let verified = cx.federation.verify_statement(home, CHECKPOINT_LABEL, &receipt).await;
    let fits = Checkpoint::of(&receipt).is_ok_and(|checkpoint| {
        checkpoint.home == home.as_str()
            && checkpoint.stream.as_str() == stream
            && (checkpoint.term, checkpoint.seq) == (answered.term, answered.seq)
            && checkpoint.hash().as_slice() == answered.hash.as_slice()
    });
    if verified.is_ok() && fits {
        // It happened: that the promise cannot be remembered now takes nothing from that.
        if let Err(error) = cx.replicas.remember_receipt(caller.account_id, &receipt).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a receipt could not be remembered");
        }
        return Ok(());
    }
    tracing::error!(peer = home.as_str(), stream.id = stream, "a receipt does not hold");
    Err(Fault::OutcomeUnknown)
}

/// The stream in which a peer's call for one of its accounts may put an entry.
pub(super) fn owes_a_receipt<M: Method>(caller: Option<Behalf<'_>>, body: &[u8]) -> Option<String> {
    let asked = M::KIND == Kind::Procedure && M::FORWARD == Some(Forward::Home);
    (asked && caller.is_some_and(|caller| caller.by_peer)).then(|| stream_of_body(body)).flatten()
}

/// The answer with what this server signs for its entry: it is stored, and no other will ever stand there.
pub(super) fn with_receipt(cx: &Services, stream: &str, output: &impl Serialize) -> Result<Value, Fault> {
    let mut answer = serde_json::to_value(output).map_err(Fault::internal)?;
    let number = |name: &str| answer.get(name).and_then(Value::as_u64);
    let hash = answer.get("hash").cloned().and_then(|hash| serde_json::from_value::<types::Bytes>(hash).ok());
    let (Some(term), Some(seq), Some(hash)) = (number("term"), number("seq"), hash) else { return Ok(answer) };
    let hash = hash.0.try_into().map_err(|_| Fault::internal("a hash of another length"))?;
    let stream = StreamId::parse(stream).map_err(Fault::internal)?;
    let head = Head { stream, term: Term(term), seq: Seq(seq), hash: Hash(hash), time: cx.clock.now() };
    let checkpoint = Checkpoint::new(cx.log.home().as_str(), &head).statement().map_err(Fault::internal)?;
    let signed = cx.federation.sign_statement(CHECKPOINT_LABEL, checkpoint);
    answer["receipt"] = serde_json::to_value(signed).map_err(Fault::internal)?;
    Ok(answer)
}

fn stream_of_body(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        stream: Cow<'a, str>,
    }
    serde_json::from_slice::<Named<'_>>(body).ok().map(|named| named.stream.into_owned())
}

fn stream_of_query(query: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "stream")
        .map(|(_, stream)| stream.into_owned())
}
