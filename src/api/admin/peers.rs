//! Other servers as the admin methods and the command line show them.

use crate::federation::{KeyState, KnownPeer, Policy};
use crate::lexicon::admin::defs::{Peer, PeerKey};
use crate::types::UnixMillis;

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
