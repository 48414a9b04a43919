//! The handshake of a WebSocket (RFC 6455 section 4.2), and the connection after the handshake.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const UPGRADE: HeaderValue = HeaderValue::from_static("upgrade");

/// A transport in both directions.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A client's connection after the answer to an upgrade.
pub struct UpgradedConnection {
    pub transport: Box<dyn Transport>,
    /// What the client sent after its request.
    pub received: Bytes,
}

type Upgrading = Pin<Box<dyn Future<Output = Option<UpgradedConnection>> + Send>>;

/// The connection of a request that asks for an upgrade: an extension of the request, made by the listener.
#[derive(Clone)]
pub struct PendingUpgrade(Arc<Mutex<Option<Upgrading>>>);

impl PendingUpgrade {
    /// `upgrading` completes after the answer, without a connection if the client disconnected.
    pub fn new(upgrading: impl Future<Output = Option<UpgradedConnection>> + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::pin(upgrading)))))
    }

    fn take(&self) -> Option<Upgrading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A valid handshake of a client.
pub(super) struct Handshake {
    upgrading: Upgrading,
    accept: HeaderValue,
}

impl Handshake {
    /// Reads the handshake of a request; `None` for any other request.
    pub fn of(parts: &mut Parts) -> Option<Self> {
        let headers = &parts.headers;
        let asks = parts.version == Version::HTTP_11
            && parts.method == Method::GET
            && lists(headers, &header::CONNECTION, "upgrade")
            && lists(headers, &header::UPGRADE, "websocket")
            && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| asks)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).ok()?;
        let upgrading = parts.extensions.remove::<PendingUpgrade>()?.take()?;
        Some(Self { upgrading, accept })
    }

    /// The answer, and the connection after the answer.
    pub fn answer(self) -> (Response, Upgrading) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, UPGRADE);
        headers.insert(header::UPGRADE, WEBSOCKET);
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        (response, self.upgrading)
    }
}

/// Whether a header that is a list has this item.
fn lists(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(item))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn handshake(change: impl Fn(&mut Parts)) -> Option<Handshake> {
        let request = Request::get("/")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(PendingUpgrade::new(async { None }));
        change(&mut parts);
        Handshake::of(&mut parts)
    }

    #[tokio::test]
    async fn a_handshake_is_answered_with_its_key() {
        let (response, upgrading) = handshake(|_| {}).unwrap().answer();
        assert_eq!(response.status(), 101);
        // The example of RFC 6455 section 1.3.
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(upgrading.await.is_none());
    }

    #[test]
    fn a_request_that_is_no_handshake_is_none() {
        for name in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key"] {
            let without = |parts: &mut Parts| drop(parts.headers.remove(name));
            assert!(handshake(without).is_none(), "without {name}");
        }
        assert!(handshake(|parts| parts.method = Method::POST).is_none());
        assert!(handshake(|parts| parts.version = Version::HTTP_10).is_none());
        assert!(handshake(|parts| drop(parts.extensions.remove::<PendingUpgrade>())).is_none());
    }
}
