//! Methods that this server does not have, handed on to another one (`ENABLE_DIRECT_XRPC_PROXY`, development alone).
//!
//! Invariants: nothing of ours (`blue.catbird.*`) is ever handed on; of the headers only those go either way that
//! are named here.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, header};

use super::{Fault, Services};

/// Namespaces that are never handed on, even where a method is unknown.
const OURS: &str = "blue.catbird.";

const FORWARDED: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::AUTHORIZATION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
];
const FORWARDED_PREFIXES: [&str; 2] = ["atproto-", "x-atproto-"];

const RETURNED: [HeaderName; 8] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::ETAG,
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
];
const RETURNED_PREFIXES: [&str; 1] = ["atproto-"];

/// The upstream's answer, if there is one for this method.
pub(super) async fn forward(cx: &Services, nsid: &str, request: Request) -> Option<Response> {
    let upstream = cx.upstream.as_ref().filter(|_| !is_ours(nsid))?;
    let (mut parts, body) = request.into_parts();
    if ![Method::GET, Method::HEAD, Method::POST].contains(&parts.method) {
        return Some(Fault::InvalidRequest("Incorrect HTTP method, expected GET or POST".to_owned()).into_response());
    }
    keep(&mut parts.headers, &FORWARDED, &FORWARDED_PREFIXES);
    Some(match upstream.send(parts, body.into_data_stream()).await {
        Ok(answer) => {
            let mut answer = answer.map(Body::new);
            keep(answer.headers_mut(), &RETURNED, &RETURNED_PREFIXES);
            answer
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the upstream of unknown methods gave no answer");
            Fault::UpstreamFailed.into_response()
        }
    })
}

/// The domain of an NSID is written in any case.
fn is_ours(nsid: &str) -> bool {
    nsid.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

fn keep(headers: &mut HeaderMap, names: &[HeaderName], prefixes: &[&str]) {
    let kept = |name: &HeaderName| names.contains(name) || prefixes.iter().any(|it| name.as_str().starts_with(it));
    let all = std::mem::take(headers);
    let mut last = None;
    // A name stands before the first of its values.
    for (name, value) in all {
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| kept(name)) {
            headers.append(name.clone(), value);
        }
    }
}
