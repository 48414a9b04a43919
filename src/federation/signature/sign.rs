//! Signing what goes out.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, header};
use sfv::{KeyRef, ListSerializer, StringRef};

use super::{
    ACTOR, AUDIENCE, CONTENT_DIGEST, DEVICE, LIFETIME_S, NONCE_BYTES, SIGNATURE, SIGNATURE_INPUT, TAG, base,
    content_digest,
};
use crate::identity::SigningKey;

/// A request as it will be sent.
pub struct Outgoing<'a> {
    pub method: &'a str,
    /// Scheme, host, path and query, as the receiver will see them.
    pub target_uri: &'a str,
    pub content_type: Option<&'a str>,
    pub body: &'a [u8],
    /// The receiver's bare DID.
    pub audience: &'a str,
    pub actor: Option<&'a str>,
    /// Only with an actor.
    pub device: Option<&'a str>,
    /// `did:web:<host>#peer-<tag>`.
    pub key_id: &'a str,
    /// Unix seconds.
    pub created_s: i64,
    pub nonce: [u8; NONCE_BYTES],
}

/// A value that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot stand in a header")]
pub struct NotAHeader(&'static str);

/// The headers that make the request a signed one.
pub fn sign(request: &Outgoing<'_>, key: &SigningKey) -> Result<HeaderMap, NotAHeader> {
    let digest = content_digest(request.body);
    let mut lines = vec![
        ("@method", request.method),
        ("@target-uri", request.target_uri),
        (CONTENT_DIGEST.as_str(), digest.as_str()),
    ];
    if !request.body.is_empty() {
        lines.push((header::CONTENT_TYPE.as_str(), request.content_type.unwrap_or_default()));
    }
    lines.push((AUDIENCE.as_str(), request.audience));
    lines.extend(request.actor.map(|actor| (ACTOR.as_str(), actor)));
    lines.extend(request.device.map(|device| (DEVICE.as_str(), device)));

    let names: Vec<&str> = lines.iter().map(|(name, _)| *name).collect();
    let parameters = parameters(&names, request).map_err(|_| NotAHeader("a signature parameter"))?;
    let signature = key.sign(&base(lines.iter().copied(), &parameters));

    let mut headers = HeaderMap::new();
    for (name, value) in &lines {
        if let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) {
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| NotAHeader("a covered value"))?);
        }
    }
    let value = |text: String| HeaderValue::from_str(&text).map_err(|_| NotAHeader("the signature"));
    headers.insert(&SIGNATURE_INPUT, value(format!("peer={parameters}"))?);
    headers.insert(&SIGNATURE, value(format!("peer=:{}:", STANDARD.encode(signature)))?);
    Ok(headers)
}

/// The inner list of components, with the signature's parameters (RFC 9421 section 2.3).
fn parameters(names: &[&str], request: &Outgoing<'_>) -> Result<String, sfv::Error> {
    let mut list = ListSerializer::new();
    let mut components = list.inner_list();
    for name in names {
        let _ = components.bare_item(StringRef::from_str(name)?);
    }
    let nonce = URL_SAFE_NO_PAD.encode(request.nonce);
    let seconds = |seconds: i64| sfv::Integer::try_from(seconds).unwrap_or(sfv::Integer::MAX);
    let _ = components
        .finish()
        .parameter(KeyRef::from_str("created")?, seconds(request.created_s))
        .parameter(KeyRef::from_str("expires")?, seconds(request.created_s + LIFETIME_S))
        .parameter(KeyRef::from_str("nonce")?, StringRef::from_str(&nonce)?)
        .parameter(KeyRef::from_str("keyid")?, StringRef::from_str(request.key_id)?)
        .parameter(KeyRef::from_str("tag")?, StringRef::from_str(TAG)?);
    Ok(list.finish().unwrap_or_default())
}
