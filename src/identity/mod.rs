//! Authentication: DID documents, keys, tokens, replay memory, and calls to addresses that strangers choose.
//!
//! Invariant: a caller's name comes out of a verified signature and from nowhere else.
//!
//! `rookery_protocol` has the parts that clients and servers must do byte for byte alike (keys, signatures, the device
//! chain).

pub mod credentials;
pub mod dns;
pub mod document;
pub mod guard;
pub mod handle;
pub mod http;
pub mod replay;
pub mod resolver;
pub mod server_keys;
mod shared_secret;
pub mod source;
mod store;
pub mod token;
pub mod verifier;
pub mod web_name;

pub use rookery_protocol::identity::{
    BadLink, BadSignature, ChainHead, Change, Curve, DeviceChain, DeviceKeys, DeviceLink, DeviceSigner, Extension,
    Malleability, MlsKey, PairingClaim, PairingRequest, PublicKey, Signed, SigningKey, body_hash, is_server_curve, jws,
    key_tag, keys, service_token, signing,
};

pub use credentials::{Credentials, DEVICE_HEADER, DEVICE_TOKEN_HEADER, Shown};
pub use document::{DidDocument, Service};
pub use guard::Guard;
pub use handle::{Handle, Handles};
pub use http::{Authorities, Guarded};
pub use replay::{Batcher, ReplayMemory, ReplayUnavailable, forget_tokens};
pub use resolver::{Remembered, ResolveError, Resolver};
pub use server_keys::{KeysError, ServerKeys, server_document};
pub use shared_secret::SharedSecret;
pub use source::{Network, Source};
pub use token::{Claims, Rules, TokenKind, TokenRefused};
pub use verifier::{UnverifiedDeviceToken, UnverifiedServiceToken, Verifier};
pub use web_name::{registrable_domain, web_host};
