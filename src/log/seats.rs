//! Seats follow from entries and from nothing else.
//!
//! Invariant: [`Roster::apply`] is the only rule by which seats and leaves change. It is pure, so replaying a stream's
//! entries into an empty roster gives the rows that the live server wrote.

use std::collections::BTreeMap;

use super::body::{Body, CommitBody, MembershipBody, MembershipChange, Role};
use super::chain::NotCanonical;
use super::{Content, EntryKind, NamedKind};
use crate::types::{DeviceId, Did, Seq};

/// One account's open seat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub from: Seq,
    pub role: Role,
    pub server: String,
}

/// A member that sees its seat and has a leaf.
#[derive(Clone, Debug)]
pub struct ActingMember {
    pub account: Did,
    pub is_admin: bool,
    /// Whether an operator of this server suspended the account.
    pub suspended: bool,
}

/// The present seats, and the present leaves of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    pub seats: BTreeMap<Did, Seat>,
    /// A leaf outlasts the seat of an account that left, until a commit removes it.
    pub leaves: BTreeMap<(Did, DeviceId), Seq>,
}

/// A row to write: what one entry did to seats and leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeatChange {
    Opened {
        account: Did,
        seat: Seat,
    },
    Role {
        account: Did,
        role: Role,
    },
    /// Another server acts for the account now.
    Moved {
        account: Did,
        server: String,
    },
    Closed {
        account: Did,
        until: Seq,
    },
    LeafAdded {
        account: Did,
        device: DeviceId,
        from: Seq,
    },
    LeafRemoved {
        account: Did,
        device: DeviceId,
        until: Seq,
    },
}

impl Roster {
    /// Applies one entry and answers the changes of seats. Entries of other kinds, including unknown kinds, change
    /// nothing.
    pub fn apply(&mut self, kind: &NamedKind, seq: Seq, content: &Content) -> Result<Vec<SeatChange>, NotCanonical> {
        match kind.known() {
            Some(EntryKind::Commit) => Ok(self.commit(seq, &CommitBody::decode(&content.body)?)),
            Some(EntryKind::Membership) => Ok(self.membership(seq, MembershipBody::decode(&content.body)?, content)),
            _ => Ok(Vec::new()),
        }
    }

    fn commit(&mut self, seq: Seq, body: &CommitBody) -> Vec<SeatChange> {
        let mut changes = Vec::new();
        for add in &body.adds {
            if !self.seats.contains_key(&add.account) {
                let seat = Seat { from: seq, role: Role::Member, server: add.server.clone() };
                self.seats.insert(add.account.clone(), seat.clone());
                changes.push(SeatChange::Opened { account: add.account.clone(), seat });
            }
            self.leaves.insert((add.account.clone(), add.device.clone()), seq);
            changes.push(SeatChange::LeafAdded { account: add.account.clone(), device: add.device.clone(), from: seq });
        }
        for remove in &body.removes {
            let leaf = (remove.account.clone(), remove.device.clone());
            if self.leaves.remove(&leaf).is_some() {
                let (account, device) = leaf;
                changes.push(SeatChange::LeafRemoved { account, device, until: seq });
            }
            if !self.has_leaf(&remove.account) && self.seats.remove(&remove.account).is_some() {
                changes.push(SeatChange::Closed { account: remove.account.clone(), until: seq });
            }
        }
        changes
    }

    fn membership(&mut self, seq: Seq, body: MembershipBody, content: &Content) -> Vec<SeatChange> {
        let account = body.account;
        match body.change {
            MembershipChange::Opened => {
                // The creator's seat begins at the stream's first entry; its leaf is the creating device.
                let role = body.role.unwrap_or(Role::Admin);
                let seat = Seat { from: Seq(1), role, server: body.server.unwrap_or_default() };
                self.seats.insert(account.clone(), seat.clone());
                let mut changes = vec![SeatChange::Opened { account: account.clone(), seat }];
                if let Some(device) = content.device.clone() {
                    self.leaves.insert((account.clone(), device.clone()), Seq(1));
                    changes.push(SeatChange::LeafAdded { account, device, from: Seq(1) });
                }
                changes
            }
            MembershipChange::Left => match self.seats.remove(&account) {
                Some(_) => vec![SeatChange::Closed { account, until: seq }],
                None => Vec::new(),
            },
            MembershipChange::Role => match (self.seats.get_mut(&account), body.role) {
                (Some(seat), Some(role)) => {
                    seat.role.clone_from(&role);
                    vec![SeatChange::Role { account, role }]
                }
                _ => Vec::new(),
            },
            MembershipChange::Moved => match (self.seats.get_mut(&account), body.server) {
                (Some(seat), Some(server)) => {
                    seat.server.clone_from(&server);
                    vec![SeatChange::Moved { account, server }]
                }
                _ => Vec::new(),
            },
            MembershipChange::Accepted | MembershipChange::Unknown => Vec::new(),
        }
    }

    /// Found by the order of the leaves, which is by account: a commit asks this for every leaf that it removes.
    pub fn has_leaf(&self, account: &Did) -> bool {
        let first = (account.clone(), DeviceId::least());
        self.leaves.range(first..).next().is_some_and(|((owner, _), _)| owner == account)
    }

    pub fn admins(&self) -> impl Iterator<Item = &Did> {
        self.seats.iter().filter(|(_, seat)| seat.role == Role::Admin).map(|(did, _)| did)
    }
}

#[cfg(test)]
mod tests {
    use super::super::body::{Addition, Removal};
    use super::*;
    use crate::types::Bytes;

    fn did(name: &str) -> Did {
        Did::parse(&format!("did:plc:{name}")).unwrap()
    }

    fn device(name: &str) -> DeviceId {
        DeviceId::of_key(name.as_bytes())
    }

    fn content(body: &impl Body, author: Option<(Did, DeviceId)>) -> Content {
        Content::new(body.encode().unwrap(), author)
    }

    fn commit(adds: &[(&str, &str)], removes: &[(&str, &str)]) -> Content {
        let adds = adds.iter().map(|(a, d)| Addition {
            account: did(a),
            device: device(d),
            reference: Bytes(vec![1]),
            server: "did:web:a.example".into(),
        });
        let removes = removes.iter().map(|(a, d)| Removal { account: did(a), device: device(d) });
        content(&CommitBody { commit: Bytes(vec![1]), adds: adds.collect(), removes: removes.collect() }, None)
    }

    fn membership(account: &str, change: MembershipChange, role: Option<Role>) -> MembershipBody {
        MembershipBody { account: did(account), change, role, server: None }
    }

    #[test]
    fn seats_begin_and_end_with_the_entries_that_say_so() {
        let mut roster = Roster::default();
        let opened = content(&membership("alice", MembershipChange::Opened, None), Some((did("alice"), device("a1"))));
        roster.apply(&EntryKind::Membership.into(), Seq(3), &opened).unwrap();
        assert_eq!(roster.seats[&did("alice")].from, Seq(1));
        assert_eq!(roster.seats[&did("alice")].role, Role::Admin);

        roster.apply(&EntryKind::Commit.into(), Seq(4), &commit(&[("bob", "b1"), ("bob", "b2")], &[])).unwrap();
        assert_eq!(roster.seats[&did("bob")].from, Seq(4), "two leaves are one seat");

        let changes = roster.apply(&EntryKind::Commit.into(), Seq(5), &commit(&[], &[("bob", "b1")])).unwrap();
        assert_eq!(changes.len(), 1, "a seat stays while a leaf is left");
        let changes = roster.apply(&EntryKind::Commit.into(), Seq(6), &commit(&[], &[("bob", "b2")])).unwrap();
        assert!(changes.contains(&SeatChange::Closed { account: did("bob"), until: Seq(6) }));
        assert!(!roster.seats.contains_key(&did("bob")));
    }

    #[test]
    fn replacing_the_only_device_in_one_commit_keeps_the_seat() {
        let mut roster = Roster::default();
        roster.apply(&EntryKind::Commit.into(), Seq(4), &commit(&[("bob", "b1")], &[])).unwrap();
        roster.apply(&EntryKind::Commit.into(), Seq(5), &commit(&[("bob", "b2")], &[("bob", "b1")])).unwrap();
        assert_eq!(roster.seats[&did("bob")].from, Seq(4));
    }

    #[test]
    fn leaving_ends_the_seat_and_leaves_the_leaf_for_a_commit() {
        let mut roster = Roster::default();
        roster.apply(&EntryKind::Commit.into(), Seq(4), &commit(&[("bob", "b1")], &[])).unwrap();
        let left = content(&membership("bob", MembershipChange::Left, None), None);
        let changes = roster.apply(&EntryKind::Membership.into(), Seq(5), &left).unwrap();
        assert_eq!(changes, [SeatChange::Closed { account: did("bob"), until: Seq(5) }]);
        assert!(roster.has_leaf(&did("bob")));
        let changes = roster.apply(&EntryKind::Commit.into(), Seq(6), &commit(&[], &[("bob", "b1")])).unwrap();
        assert_eq!(changes, [SeatChange::LeafRemoved { account: did("bob"), device: device("b1"), until: Seq(6) }]);
    }
}
