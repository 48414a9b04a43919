//! Who speaks: DID documents, keys, tokens, replay memory, and calls to addresses that strangers choose.
//!
//! Invariant: a caller's name comes out of a verified signature and from nowhere else.

pub mod certificate;
pub mod credentials;
pub mod device;
mod dns;
pub mod document;
pub mod guard;
pub mod handle;
pub mod http;
pub mod jws;
pub mod keys;
pub mod pairing;
pub mod replay;
pub mod resolver;
pub mod server_keys;
mod shared_secret;
pub mod signing;
pub mod source;
pub mod statement;
mod store;
pub mod token;
pub mod verifier;

pub use certificate::{BadLink, ChainHead, Change, DeviceChain, DeviceKeys, DeviceLink, Extension};
pub use credentials::{Credentials, DEVICE_HEADER, DEVICE_TOKEN_HEADER, Shown};
pub use device::{DeviceSigner, service_token};
pub use document::{DidDocument, Service};
pub use guard::Guard;
pub use handle::{Handle, Handles};
pub use http::Guarded;
pub use keys::{BadSignature, Curve, Malleability, PublicKey};
pub use pairing::PairingClaim;
pub use replay::{Batcher, ReplayMemory, ReplayUnavailable, forget_tokens};
pub use resolver::{ResolveError, Resolver};
pub use server_keys::{KeysError, ServerKeys, server_document};
pub use shared_secret::SharedSecret;
pub use signing::SigningKey;
pub use source::{Network, Source};
pub use statement::{Signed, key_tag};
pub use token::{Claims, Rules, TokenKind, TokenRefused, body_hash};
pub use verifier::{UnverifiedDeviceToken, UnverifiedServiceToken, Verifier};
