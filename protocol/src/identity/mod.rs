//! Keys, signatures, device tokens, and the signed chain of an account's devices.

pub mod certificate;
pub mod device;
pub mod jws;
pub mod keys;
pub mod pairing;
pub mod signing;
pub mod statement;

pub use certificate::{BadLink, ChainHead, Change, DeviceChain, DeviceKeys, DeviceLink, Extension, MlsKey};
pub use device::{
    DEVICE_HEADER, DEVICE_TOKEN_HEADER, DEVICE_TYP, DeviceSigner, body_hash, leaf_identity, service_token,
};
pub use keys::{BadSignature, Curve, Malleability, PublicKey};
pub use pairing::{PairingClaim, PairingRequest};
pub use signing::SigningKey;
pub use statement::{Signed, is_server_curve, key_tag};
