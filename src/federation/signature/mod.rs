//! Requests signed by RFC 9421, in one narrow profile (docs/FEDERATION.md, "Signed requests").
//!
//! Invariants: what names the caller is covered by the signature, and so is every `x-rookery-*` header; the target is the
//! public origin with path and query as received, never what `Host` or a proxy's header says.

mod read;
mod sign;
#[cfg(test)]
mod tests;

pub use read::{Presented, read};
pub use sign::{Outgoing, sign};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;

use crate::types::Hash;

/// The signature parameter that makes a signature ours.
pub const TAG: &str = "rookery-peer-v1";
pub static AUDIENCE: HeaderName = HeaderName::from_static("x-rookery-audience");
pub static ACTOR: HeaderName = HeaderName::from_static("x-rookery-actor");
pub static DEVICE: HeaderName = HeaderName::from_static("x-rookery-device");
/// On answers: which life of the sender's database they come from, in Unix seconds.
pub static INCARNATION: HeaderName = HeaderName::from_static("x-rookery-incarnation");
static SIGNATURE: HeaderName = HeaderName::from_static("signature");
static SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
static CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// Every header of ours begins so, and none may stand outside of the signature.
const OURS: &str = "x-rookery-";

/// Seconds from `created` to `expires`, at most.
const LIFETIME_S: i64 = 60;
/// Seconds that two clocks may differ.
const SKEW_S: i64 = 30;
/// Bytes of a nonce: 22 characters of base64url.
const NONCE_BYTES: usize = 16;

/// `sha-256` of the body (RFC 9530), as the header says it.
fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Hash::of(body).as_slice()))
}

/// One line of the signature base for each component, then its parameters (RFC 9421 section 2.5).
fn base<'a>(lines: impl Iterator<Item = (&'a str, &'a str)>, parameters: &str) -> Vec<u8> {
    let mut base = String::new();
    for (name, value) in lines {
        base.push('"');
        base.push_str(name);
        base.push_str("\": ");
        base.push_str(value);
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(parameters);
    base.into_bytes()
}
