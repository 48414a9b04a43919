//! The state of one request that all limits share, on its way through the layers and back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::receive::BodyOwner;
use super::{Address, ClientConnection};
use crate::limit::Standing;
use crate::types::{Clock, Did};

pub(super) const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
pub(super) const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
pub(super) const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The budget's owner that a request counted against, as the log shows it: a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    Account(String),
    Address(String),
    /// Another server's name is no secret.
    Peer(String),
}

/// One request, shared by every layer and by the proof of its caller.
#[derive(Clone)]
pub struct Visit {
    pub(super) address: Address,
    /// Set once: a request counts once.
    counted: Arc<OnceLock<(Standing, From)>>,
    /// The issuer of the request's token, not verified yet.
    claimed: Arc<OnceLock<Did>>,
    /// The account or domain that the request authenticated.
    proven: Arc<OnceLock<BodyOwner>>,
    connection: Option<ClientConnection>,
}

impl Visit {
    pub(super) fn new(address: Address, connection: Option<ClientConnection>) -> Self {
        Self { address, counted: Arc::default(), claimed: Arc::default(), proven: Arc::default(), connection }
    }

    pub(super) fn counted(&self, standing: Standing, from: From) {
        // Callers check before they count; of two concurrent counts the first one stands.
        let _ = self.counted.set((standing, from));
    }

    /// Records a verified peer, and that it was counted.
    pub(in crate::xrpc) fn by_peer(&self, server: &Did, standing: Standing) {
        self.counted(standing, From::Peer(server.to_string()));
        self.proves(BodyOwner::of_server(server));
    }

    /// Records that a token or a signature of the request was valid, and its budget not spent.
    pub(super) fn proves(&self, owner: BodyOwner) {
        let _ = self.proven.set(owner);
        if let Some(connection) = &self.connection {
            connection.prove();
        }
    }

    /// The holder of the body's bytes.
    pub(super) fn body_owner(&self) -> BodyOwner {
        self.proven.get().cloned().unwrap_or(BodyOwner::Address(self.address))
    }

    /// The address that the request comes from.
    pub fn address(&self) -> Address {
        self.address
    }

    pub(super) fn is_counted(&self) -> bool {
        self.counted.get().is_some()
    }

    pub(super) fn from(&self) -> Option<&From> {
        self.counted.get().map(|(_, from)| from)
    }

    pub(super) fn claims(&self, did: &Did) {
        let _ = self.claimed.set(did.clone());
    }

    pub(super) fn claimed(&self) -> Option<&Did> {
        self.claimed.get()
    }

    /// Writes the state of the budget into the answer's headers.
    pub(super) fn tell(&self, headers: &mut HeaderMap, clock: &Clock) {
        let Some((standing, _)) = self.counted.get() else { return };
        let (quantity, period_s) = (standing.rate.quantity.get(), standing.rate.period.as_secs());
        let full_at_s = clock.now_seconds() + i64::try_from(whole_seconds(standing.full_in)).unwrap_or(0);
        headers.insert(LIMIT, quantity.into());
        // Less than one call costs here is nothing.
        let remaining = if standing.remaining < standing.cost { 0 } else { standing.remaining };
        headers.insert(REMAINING, remaining.into());
        headers.insert(RESET, full_at_s.into());
        if let Ok(policy) = HeaderValue::from_str(&format!("{quantity};w={period_s}")) {
            headers.insert(POLICY, policy);
        }
        if let Some(wait) = standing.refused_for {
            headers.insert(header::RETRY_AFTER, whole_seconds(wait).into());
        }
    }
}

/// Rounded up, so that a client that waits this long finds a free place.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
