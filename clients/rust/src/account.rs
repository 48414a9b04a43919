//! Who vouches for an account: its PDS, or in development and tests whoever holds its key.

use rookery_protocol::identity::{SigningKey, service_token};
use rookery_protocol::types::{Did, UnixMillis};

use crate::service::CallError;

/// Gives service tokens.
pub trait Account: Send + Sync + 'static {
    fn did(&self) -> &Did;

    /// For one call of `nsid` at the server `audience`. `now` is the caller's clock; a PDS has its own.
    fn service_token(
        &self,
        audience: &Did,
        nsid: &str,
        now: UnixMillis,
    ) -> impl Future<Output = Result<String, CallError>> + Send;
}

/// An account whose `#atproto` key is at hand.
#[derive(Debug)]
pub struct OwnKey {
    did: Did,
    key: SigningKey,
}

impl OwnKey {
    pub fn new(did: Did, key: SigningKey) -> Self {
        Self { did, key }
    }
}

impl Account for OwnKey {
    fn did(&self) -> &Did {
        &self.did
    }

    async fn service_token(&self, audience: &Did, nsid: &str, now: UnixMillis) -> Result<String, CallError> {
        Ok(service_token(&self.key, &self.did, audience.as_str(), nsid, now))
    }
}
