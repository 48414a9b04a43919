//! A subscription over a WebSocket.
//!
//! Invariants: one binary message is one frame; whoever may not subscribe is told so by an error frame and close code
//! 1008 after the upgrade, as AT Protocol clients expect; a stopping server closes with 1001, so that clients reconnect.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};

use super::error_frame;
use crate::lexicon::Method;
use crate::xrpc::{Api, Asked, Caller, Failure, Fault, Services, method};

/// Bytes of buffer for each socket, each way: an idle one must cost little.
const BUFFER_BYTES: usize = 4096;
/// A client has nothing to say but control frames.
const CLIENT_MESSAGE_BYTES: usize = 4096;
const PING_EVERY: Duration = Duration::from_secs(30);
/// A frame that a client does not take within this time ends its socket.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// Where a subscription's frames come from.
pub trait Source: Send + 'static {
    /// The next frame; the end of the subscription as the error that the client is told.
    fn next(&mut self) -> impl Future<Output = Result<Bytes, (&'static str, String)>> + Send;
}

/// An async function `(&Services, Caller, Params) -> Result<Source, Failure<Error>>`.
pub trait Feed<'a, M: Method, C>: Send + Sync {
    type Source: Source;
    type Begin: Future<Output = Result<Self::Source, Failure<M::Error>>> + Send + 'a;

    fn begin(&self, cx: &'a Services, caller: C, params: M::Params) -> Self::Begin;
}

impl<'a, M, C, S, F, Fut> Feed<'a, M, C> for F
where
    M: Method,
    S: Source,
    F: Fn(&'a Services, C, M::Params) -> Fut + Send + Sync,
    Fut: Future<Output = Result<S, Failure<M::Error>>> + Send + 'a,
{
    type Source = S;
    type Begin = Fut;

    fn begin(&self, cx: &'a Services, caller: C, params: M::Params) -> Fut {
        self(cx, caller, params)
    }
}

impl Api {
    /// Mounts a subscription.
    pub fn subscription<M, C, F>(self, feed: F) -> Self
    where
        M: Method,
        C: Caller + 'static,
        F: for<'a> Feed<'a, M, C> + Clone + 'static,
    {
        let route = move |State(cx): State<Services>, request: Request| {
            let feed = feed.clone();
            async move { upgrade::<M, C, F>(cx, feed, request).await }
        };
        self.route::<M>(C::RULE, get(route))
    }
}

async fn upgrade<M, C, F>(cx: Services, feed: F, request: Request) -> Response
where
    M: Method,
    C: Caller + 'static,
    F: for<'a> Feed<'a, M, C> + 'static,
{
    let (mut parts, _) = request.into_parts();
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &cx).await else {
        let body = serde_json::json!({
            "error": "InvalidRequest",
            "message": "XRPC subscriptions are only available over WebSocket"
        });
        return (StatusCode::UPGRADE_REQUIRED, [(header::UPGRADE, "websocket")], axum::Json(body)).into_response();
    };
    let span = tracing::Span::current();
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_message_size(CLIENT_MESSAGE_BYTES)
        .on_upgrade(move |socket| {
            let sockets = cx.sockets.clone();
            let served = async move { serve::<M, C, F>(&cx, &feed, &parts, socket).await };
            sockets.track_future(tracing::Instrument::instrument(served, span))
        })
}

async fn serve<M, C, F>(cx: &Services, feed: &F, parts: &Parts, mut socket: WebSocket)
where
    M: Method,
    C: Caller,
    F: for<'a> Feed<'a, M, C>,
{
    match begin::<M, C, F>(cx, feed, parts).await {
        Ok(source) => pump(cx, source, &mut socket).await,
        Err(failure) => {
            let (name, message) = failure.told();
            if let Failure::Fault(Fault::Internal(error)) = &failure {
                let error: &(dyn std::error::Error + 'static) = error.as_ref();
                tracing::error!(error, "a subscription failed by our own mistake");
            }
            refuse(&mut socket, name, &message).await;
        }
    }
}

async fn begin<'a, M, C, F>(
    cx: &'a Services,
    feed: &F,
    parts: &Parts,
) -> Result<<F as Feed<'a, M, C>>::Source, Failure<M::Error>>
where
    M: Method,
    C: Caller,
    F: Feed<'a, M, C>,
{
    let params = method::params::<M>(parts.uri.query().unwrap_or_default())?;
    let caller = C::prove(cx, Asked { parts, nsid: M::NSID, kind: M::KIND }).await?;
    caller.check_body(b"").map_err(Fault::from)?;
    feed.begin(cx, caller, params).await
}

async fn pump(cx: &Services, mut source: impl Source, socket: &mut WebSocket) {
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        tokio::select! {
            () = cx.stopping.cancelled() => return close(socket, close_code::AWAY, "the server is stopping").await,
            heard = socket.recv() => match heard {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    let frame = error_frame("InvalidRequest", "a subscriber sends nothing");
                    return end(socket, frame, close_code::UNSUPPORTED, "InvalidRequest").await;
                }
            },
            _ = ping.tick() => if !send(socket, Message::Ping(Bytes::new())).await { return },
            next = source.next() => match next {
                Ok(frame) => if !send(socket, Message::Binary(frame)).await { return },
                Err((name, message)) => return refuse(socket, name, &message).await,
            },
        }
    }
}

/// Whether the client took it in time.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(tokio::time::timeout(SEND_TIMEOUT, socket.send(message)).await, Ok(Ok(())))
}

async fn refuse(socket: &mut WebSocket, name: &str, message: &str) {
    metrics::counter!(crate::telemetry::metric_name::SUBSCRIPTIONS_ENDED, "reason" => name.to_owned()).increment(1);
    end(socket, error_frame(name, message), close_code::POLICY, name).await;
}

async fn end(socket: &mut WebSocket, frame: Bytes, code: u16, reason: &str) {
    if send(socket, Message::Binary(frame)).await {
        close(socket, code, reason).await;
    }
}

async fn close(socket: &mut WebSocket, code: u16, reason: &str) {
    let frame = CloseFrame { code, reason: reason.to_owned().into() };
    send(socket, Message::Close(Some(frame))).await;
}
