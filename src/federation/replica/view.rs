//! The membership snapshot: a conversation just before the entry that begins a seat. A follower creates its replica
//! from the snapshot, because it may not read earlier entries.
//!
//! Invariant: the snapshot is a claim of the home. It shows and ends the seats of others, and never gives a seat to an
//! account of this server, whose seats begin with entries that this server holds.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::lexicon::peer::defs;
use crate::log::body::{ConvoBody, Role};
use crate::log::{Roster, RosterSeat};
use crate::types::{Bytes, DeviceId, Did, Malformed, Seq};

/// The conversation's immutable facts, and its members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub group_id: Bytes,
    pub cipher_suite: u16,
    pub handshake_policy: String,
    /// The policy that the creator asked for, as JSON text.
    pub policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Bytes>,
    pub members: Vec<ViewMember>,
}

/// An account with a seat; without a role, one that left and whose leaves wait to be removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewMember {
    pub account: Did,
    /// did:web of the account's server.
    pub server: Did,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub from_seq: Seq,
    pub devices: Vec<ViewDevice>,
}

/// A leaf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ViewDevice {
    pub device: DeviceId,
    pub from_seq: Seq,
}

impl View {
    /// The home's snapshot of a conversation, from its `#convo` body and the roster before the seat begins. `server`
    /// names the server of an account that left but has leaves: the home's word, no seat says it any more.
    pub fn of(convo: ConvoBody, roster: &Roster, server: impl Fn(&Did) -> Did) -> Self {
        let ConvoBody { group_id, cipher_suite, handshake_policy, policy, metadata } = convo;
        let accounts: BTreeSet<&Did> =
            roster.seats.keys().chain(roster.leaves.keys().map(|(account, _)| account)).collect();
        let members = accounts.into_iter().map(|account| {
            let leaves = roster.leaves.iter().filter(|((owner, _), _)| owner == account);
            let devices: Vec<_> =
                leaves.map(|((_, device), from)| ViewDevice { device: device.clone(), from_seq: *from }).collect();
            let seat = roster.seats.get(account);
            let first_leaf = devices.iter().map(|leaf| leaf.from_seq).min().unwrap_or(Seq(1));
            ViewMember {
                account: account.clone(),
                server: seat.and_then(|seat| Did::parse(&seat.server).ok()).unwrap_or_else(|| server(account)),
                role: seat.map(|seat| seat.role.clone()),
                from_seq: seat.map_or(first_leaf, |seat| seat.from),
                devices,
            }
        });
        let members = members.collect();
        Self { group_id, cipher_suite, handshake_policy, policy, metadata, members }
    }

    /// Seats and leaves as a follower writes them. `Malformed` if they name an account twice, or an entry at or beyond
    /// `begins`, the entry that the view stands before.
    pub fn roster(&self, begins: Seq) -> Result<Roster, Malformed> {
        let mut roster = Roster::default();
        let mut seen = BTreeSet::new();
        for member in &self.members {
            let early = |seq: Seq| seq >= Seq(1) && seq < begins;
            let fits = early(member.from_seq) && member.devices.iter().all(|leaf| early(leaf.from_seq));
            if !fits || !seen.insert(&member.account) {
                return Err(Malformed::new("view", "an account twice, or a seat from an entry that it stands before"));
            }
            if let Some(role) = &member.role {
                let seat = RosterSeat { from: member.from_seq, role: role.clone(), server: member.server.to_string() };
                roster.seats.insert(member.account.clone(), seat);
            }
            for leaf in &member.devices {
                roster.leaves.insert((member.account.clone(), leaf.device.clone()), leaf.from_seq);
            }
        }
        Ok(roster)
    }
}

impl TryFrom<defs::View> for View {
    type Error = Malformed;

    fn try_from(view: defs::View) -> Result<Self, Malformed> {
        let suite = u16::try_from(view.cipher_suite);
        Ok(Self {
            group_id: view.group_id,
            cipher_suite: suite.map_err(|_| Malformed::new("view", "a cipher suite has 16 bits"))?,
            handshake_policy: view.handshake_policy,
            policy: view.policy,
            metadata: view.metadata,
            members: view.members.into_iter().map(ViewMember::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<defs::ViewMember> for ViewMember {
    type Error = Malformed;

    fn try_from(member: defs::ViewMember) -> Result<Self, Malformed> {
        let named = |name: &str| Role::from_name(name).ok_or(Malformed::new("view", "a role has no name"));
        let role = member.role.as_deref().map(named).transpose()?;
        let device = |leaf: defs::ViewDevice| {
            Ok(ViewDevice { device: DeviceId::parse(&leaf.device)?, from_seq: Seq(leaf.from_seq) })
        };
        Ok(Self {
            account: member.account,
            server: member.server,
            role,
            from_seq: Seq(member.from_seq),
            devices: member.devices.into_iter().map(device).collect::<Result<_, _>>()?,
        })
    }
}

impl From<View> for defs::View {
    fn from(view: View) -> Self {
        let member = |member: ViewMember| defs::ViewMember {
            account: member.account,
            server: member.server,
            role: member.role.map(|role| role.name().to_owned()),
            from_seq: member.from_seq.0,
            devices: member
                .devices
                .into_iter()
                .map(|leaf| defs::ViewDevice { device: leaf.device.to_string(), from_seq: leaf.from_seq.0 })
                .collect(),
        };
        Self {
            group_id: view.group_id,
            cipher_suite: u64::from(view.cipher_suite),
            handshake_policy: view.handshake_policy,
            policy: view.policy,
            metadata: view.metadata,
            members: view.members.into_iter().map(member).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(text: &str) -> Did {
        Did::parse(text).unwrap()
    }

    #[test]
    fn a_view_makes_the_roster_that_it_was_made_of() {
        let (alice, bob) = (did("did:plc:alice"), did("did:plc:bob"));
        let (one, two) = (DeviceId::of_key(b"1"), DeviceId::of_key(b"2"));
        let mut roster = Roster::default();
        let seat = RosterSeat { from: Seq(1), role: Role::Admin, server: "did:web:a.example".to_owned() };
        roster.seats.insert(alice.clone(), seat);
        roster.leaves.insert((alice.clone(), one.clone()), Seq(1));
        // He left; his leaf is still there.
        roster.leaves.insert((bob.clone(), two), Seq(4));
        let convo = ConvoBody {
            group_id: Bytes(vec![7]),
            cipher_suite: 1,
            handshake_policy: "opaque".to_owned(),
            policy: "{}".to_owned(),
            metadata: None,
        };
        let view = View::of(convo, &roster, |_| did("did:web:b.example"));
        assert_eq!(view.roster(Seq(9)).unwrap(), roster);
        assert_eq!(view.members[1].server, did("did:web:b.example"));
        assert!(view.roster(Seq(4)).is_err(), "a leaf from the entry that begins the seat");
        let wire = defs::View::from(view.clone());
        let json = serde_json::to_value(&wire).unwrap();
        assert_eq!(json, serde_json::to_value(&view).unwrap(), "the lexicon's shape and ours are one");
        assert_eq!(View::try_from(wire).unwrap(), view);
        let mut twice = view;
        twice.members.push(twice.members[0].clone());
        assert!(twice.roster(Seq(9)).is_err());
    }
}
