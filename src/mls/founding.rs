//! A conversation begins with the GroupInfo of epoch 0, whose only leaf is the founder's device.

use super::commit::StoredLeaf;
use super::refusals::{invalid_group_info, membership};
use super::{group_info, identity, limits};
use crate::types::Refusal;

/// Proof that a founding GroupInfo was checked. Only [`founding`] makes one.
pub struct Founded {
    group_id: Vec<u8>,
    cipher_suite: u16,
    founder: StoredLeaf,
    group_info: Vec<u8>,
}

impl Founded {
    /// 1 to 255 bytes, the founder's choice: whether it is free is for the caller to find out.
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    pub fn cipher_suite(&self) -> u16 {
        self.cipher_suite
    }

    /// The only leaf.
    pub fn founder(&self) -> &StoredLeaf {
        &self.founder
    }

    pub fn group_info(&self) -> &[u8] {
        &self.group_info
    }
}

impl std::fmt::Debug for Founded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Founded(suite {})", self.cipher_suite)
    }
}

/// Checks the GroupInfo of `createConvo`.
///
/// Refusals: `MalformedMessage`, `InvalidGroupInfo`, `UnsupportedCipherSuite`, `MembershipMismatch`.
pub fn founding(group_info: &[u8], founder: &StoredLeaf) -> Result<Founded, Refusal> {
    let claim = group_info::Claim::parse(group_info)?;
    if claim.view.epoch.0 != 0 {
        return Err(invalid_group_info("a conversation begins at epoch 0"));
    }
    if !(1..=limits::GROUP_ID_BYTES).contains(&claim.view.group_id.len()) {
        return Err(invalid_group_info("a group id has 1 to 255 bytes"));
    }
    // Before the signatures, of which a tree may have thousands.
    let [leaf] = claim.view.leaves.as_slice() else {
        return Err(membership("a conversation begins with one leaf, the founder's"));
    };
    if !founder.signature_keys.contains(&leaf.signature_key) {
        return Err(membership("the only leaf is not of the founder's device"));
    }
    if !identity::names(&leaf.identity, &founder.account, &founder.device) {
        return Err(invalid_group_info("the only leaf's identity is not the founder's"));
    }
    let view = claim.verify()?;
    if view.leaves.iter().any(|leaf| leaf.stale) {
        return Err(invalid_group_info("the founder's leaf is outside of its lifetime"));
    }
    Ok(Founded {
        group_id: view.group_id,
        cipher_suite: view.cipher_suite,
        founder: founder.clone(),
        group_info: group_info.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::client::Client;
    use super::super::fixture::{Room, client, leaf_of, lifetime_in_the_past};
    use super::*;

    fn name(group_info: &[u8], founder: &StoredLeaf) -> &'static str {
        founding(group_info, founder).unwrap_err().name
    }

    #[test]
    fn the_founders_group_info_is_accepted_as_it_is() {
        let mut alice = client("alice");
        let (group_id, group_info) = alice.create_group().unwrap();
        let founded = founding(&group_info, &leaf_of(&alice)).unwrap();
        assert_eq!(founded.group_id(), group_id);
        assert_eq!(founded.cipher_suite(), 1);
        assert_eq!(founded.group_info(), group_info);
        assert_eq!(founded.founder().device, *alice.device());
    }

    #[test]
    fn only_the_founders_own_group_at_epoch_0_is_accepted() {
        let mut alice = client("alice");
        let (group_id, group_info) = alice.create_group().unwrap();
        let me = leaf_of(&alice);
        let bob = client("bob");
        assert_eq!(name(&group_info, &leaf_of(&bob)), "MembershipMismatch");
        let impostor = StoredLeaf { account: bob.did().clone(), ..me.clone() };
        assert_eq!(name(&group_info, &impostor), "InvalidGroupInfo");
        assert_eq!(name(&[group_info.as_slice(), &[0]].concat(), &me), "MalformedMessage");
        assert_eq!(name(&alice.encrypt(&group_id, b"x").unwrap(), &me), "MalformedMessage");
        let mut unsigned = group_info.clone();
        *unsigned.last_mut().unwrap() ^= 1;
        assert_eq!(name(&unsigned, &me), "InvalidGroupInfo");
        assert_eq!(name(&unsigned, &leaf_of(&bob)), "MembershipMismatch", "before any signature");
        let mut other_suite = group_info.clone();
        other_suite[7] = 0x4d;
        assert_eq!(name(&other_suite, &me), "UnsupportedCipherSuite");

        let room = Room::of(&["alice", "bob"]);
        assert_eq!(name(&room.group_info, &room.leaf("alice")), "InvalidGroupInfo");
    }

    #[test]
    fn a_founder_does_not_begin_with_an_expired_leaf() {
        let mut alice: Client = client("alice");
        alice.set_leaf_lifetime(lifetime_in_the_past());
        let (_, group_info) = alice.create_group().unwrap();
        let refusal = founding(&group_info, &leaf_of(&alice)).unwrap_err();
        assert_eq!(refusal.name, "InvalidGroupInfo");
        assert!(refusal.detail.message.contains("lifetime"), "{refusal}");
    }
}
