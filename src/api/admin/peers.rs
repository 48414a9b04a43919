//! Other servers, as the admin methods and the command line list them and decide about them.
//!
//! Invariant: one transaction writes a decision and its record.

use super::actions::{self, OperatorAction};
use crate::federation::roster::{self, Undecided};
use crate::federation::{KeyState, KnownPeer, Policy};
use crate::lexicon::admin::defs::{Peer, PeerKey};
use crate::storage::Storage;
use crate::types::{Did, UnixMillis};

/// An operator's decision about another server.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'a> {
    Policy(Policy),
    /// Accepts a key that no earlier key endorsed.
    AcceptKey(&'a str),
    /// Refuses a key permanently.
    RefuseKey(&'a str),
    Forget,
}

/// Carries out a decision of the operator `by`. `development` allows servers on localhost with a port.
pub async fn decide(
    storage: &Storage,
    by: &str,
    server: &Did,
    decision: &Decision<'_>,
    now: UnixMillis,
    development: bool,
) -> Result<(), Undecided> {
    let mut tx = storage.begin().await?;
    let (name, value) = match *decision {
        Decision::Policy(policy) => {
            roster::decide(tx.conn(), server, policy, now, development).await?;
            ("setPeerPolicy", Some(("policy", policy_name(policy))))
        }
        Decision::AcceptKey(key) => {
            roster::decide_key(tx.conn(), server, key, true).await?;
            ("acceptPeerKey", Some(("key", key)))
        }
        Decision::RefuseKey(key) => {
            roster::decide_key(tx.conn(), server, key, false).await?;
            ("refusePeerKey", Some(("key", key)))
        }
        Decision::Forget => {
            roster::forget(tx.conn(), server).await?;
            ("forgetPeer", None)
        }
    };
    let detail: Vec<_> = value.into_iter().chain([("server", server.as_str())]).collect();
    actions::record(tx.conn(), &OperatorAction { by, name, account: None, detail: &detail }, now).await?;
    Ok(tx.commit().await?)
}

pub const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Usual => "usual",
        Policy::Allowed => "allowed",
        Policy::Blocked => "blocked",
    }
}

pub fn policy(name: &str) -> Option<Policy> {
    [Policy::Usual, Policy::Allowed, Policy::Blocked].into_iter().find(|policy| policy_name(*policy) == name)
}

const fn state_name(state: KeyState) -> &'static str {
    match state {
        KeyState::Held => "held",
        KeyState::Accepted => "accepted",
        KeyState::Refused => "refused",
    }
}

pub fn shown(peer: KnownPeer) -> Peer {
    let keys = peer.keys.into_iter().map(|known| PeerKey {
        id: known.key.id,
        r#use: known.key.purpose.name().to_owned(),
        public_key_multibase: known.key.key.multikey(),
        state: state_name(known.state).to_owned(),
    });
    Peer {
        server: peer.did,
        domain: peer.domain.to_string(),
        policy: policy_name(peer.policy).to_owned(),
        first_seen_at: UnixMillis::from(peer.first_seen_at).to_rfc3339(),
        last_seen_at: UnixMillis::from(peer.last_seen_at).to_rfc3339(),
        held_until: peer.held_until.map(|until| UnixMillis::from(until).to_rfc3339()),
        keys: keys.collect(),
    }
}
