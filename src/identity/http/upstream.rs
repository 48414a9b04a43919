//! Another server that gets the methods which this one does not have, in development.
//!
//! Invariants: it is called at one origin, which the operator named; redirects are answers like any other; bodies go
//! through in both directions as they come, and neither is kept.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::header;
use http::request::Parts;
use url::Url;

use super::{Authorities, HttpError, TIMES, endless};

/// Without a byte of the answer's body for so long, it ends.
const SILENCE: Duration = Duration::from_mins(1);

/// A body on its way from there.
pub type UpstreamBody = reqwest::Body;

#[derive(Debug, Clone)]
pub struct Upstream {
    client: reqwest::Client,
    base: Url,
}

impl Upstream {
    pub fn new(base: Url, authorities: &Authorities) -> Result<Self, HttpError> {
        // The time for the beginning of an answer is that of every request; a stream takes as long as it takes.
        let client = endless(TIMES.connect, authorities).read_timeout(SILENCE).build();
        Ok(Self { client: client.map_err(HttpError::from_reqwest)?, base })
    }

    /// Sends a request on; its target is the path and query below the upstream's origin.
    pub async fn send<E>(
        &self,
        parts: Parts,
        body: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    ) -> Result<http::Response<UpstreamBody>, HttpError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        let has_body = parts.headers.contains_key(header::CONTENT_LENGTH) || parts.method == http::Method::POST;
        let mut url = self.base.clone();
        url.set_path(parts.uri.path());
        url.set_query(parts.uri.query());
        let mut request = self.client.request(parts.method, url).headers(parts.headers);
        if has_body {
            request = request.body(reqwest::Body::wrap_stream(body));
        }
        Ok(request.send().await.map_err(HttpError::from_reqwest)?.into())
    }
}
