use rookery_protocol::identity::BadLink;
use rookery_protocol::types::Malformed;

use crate::service::CallError;

/// Why a device could not do something. Names no account.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[cfg(feature = "mls")]
    #[error(transparent)]
    Mls(#[from] crate::mls::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a link of the device chain: {0}")]
    Link(#[from] BadLink),
    #[error("the account's device chain: {0}")]
    Chain(&'static str),
    #[error("this device is not in a group of stream {0}")]
    NoGroup(String),
    #[error("entry {seq} of stream {stream} was to be taken in after entry {after}: something is missing")]
    Missing { stream: String, after: u64, seq: u64 },
    #[error("entry {seq} of stream {stream} cannot be read: {why}")]
    Unreadable { stream: String, seq: u64, why: String },
    #[error("an account has no key package to claim: {0}")]
    NotClaimable(String),
    #[error("a key package was refused: {error}: {message}")]
    NotPublished { error: String, message: String },
    #[error("others committed first {0} times in a row")]
    Outrun(u32),
}

impl ClientError {
    /// Whether the server refused it by that name.
    pub fn is(&self, error: &str) -> bool {
        matches!(self, Self::Call(call) if call.is(error))
    }
}
