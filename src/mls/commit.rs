//! A commit is taken only if what it declares is what its GroupInfo's tree shows, leaf by leaf.
//!
//! In an opaque conversation the commit itself is ciphertext, so the roster is read from the tree of the epoch that the
//! commit makes, signed by the committer. A committer can sign a tree that the commit does not make; then every member
//! that processes the commit sees another tree than we do, and reports it.

use std::collections::{HashMap, HashSet};

use super::refusals::{invalid_group_info, membership};
use super::{framing, group_info, identity, welcome};
use crate::types::{Detail, DeviceId, Did, Epoch, Refusal};

/// A leaf and whose it is. One of the device's keys is the leaf's signature key: that is how tree and roster are matched.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredLeaf {
    pub account: Did,
    pub device: DeviceId,
    /// The device's own key and its further MLS keys, raw. No other device has one of them.
    pub signature_keys: Vec<Vec<u8>>,
}

/// The group before the commit, as the server has it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub group_id: Vec<u8>,
    pub cipher_suite: u16,
    pub epoch: Epoch,
    pub leaves: Vec<StoredLeaf>,
}

/// What the caller says the commit does; `account` and `device` are proven, the keys are the registered ones.
#[derive(Clone, Debug)]
pub struct Declared {
    pub committer: StoredLeaf,
    pub adds: Vec<DeclaredAdd>,
    pub removes: Vec<(Did, DeviceId)>,
}

/// One device that the commit adds, by a key package that was claimed for this conversation.
#[derive(Clone, PartialEq, Eq)]
pub struct DeclaredAdd {
    pub account: Did,
    pub device: DeviceId,
    /// The key package reference (RFC 9420 section 5.2).
    pub reference: Vec<u8>,
    /// As in [`StoredLeaf`]. None for a device of another server: its leaf is known by its credential, and its key is
    /// learned from the tree.
    pub signature_keys: Vec<Vec<u8>>,
}

impl std::fmt::Debug for StoredLeaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredLeaf({})", self.device)
    }
}

impl std::fmt::Debug for DeclaredAdd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeclaredAdd({})", self.device)
    }
}

/// Proof that a commit was judged against one state of its group. Only [`judge`] makes one.
///
/// It is good for a group at [`left`](Self::left): compare again once the row is locked.
pub struct VerifiedCommit {
    group_id: Vec<u8>,
    left: Epoch,
    commit: Vec<u8>,
    group_info: Vec<u8>,
    welcome: Option<Vec<u8>>,
    adds: Vec<DeclaredAdd>,
    removes: Vec<(Did, DeviceId)>,
    leaves: Vec<StoredLeaf>,
}

impl VerifiedCommit {
    pub fn group_id(&self) -> &[u8] {
        &self.group_id
    }

    /// The epoch that the commit leaves: the `epoch` of its entry.
    pub fn left(&self) -> Epoch {
        self.left
    }

    /// The epoch that the commit makes.
    pub fn epoch(&self) -> Epoch {
        self.left.next()
    }

    pub fn commit(&self) -> &[u8] {
        &self.commit
    }

    /// Of the new epoch, with its tree.
    pub fn group_info(&self) -> &[u8] {
        &self.group_info
    }

    /// Present if and only if the commit adds somebody.
    pub fn welcome(&self) -> Option<&[u8]> {
        self.welcome.as_deref()
    }

    pub fn adds(&self) -> &[DeclaredAdd] {
        &self.adds
    }

    pub fn removes(&self) -> &[(Did, DeviceId)] {
        &self.removes
    }

    /// The roster of the new epoch, from left to right in its tree.
    pub fn leaves(&self) -> &[StoredLeaf] {
        &self.leaves
    }
}

impl std::fmt::Debug for VerifiedCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (adds, removes) = (self.adds.len(), self.removes.len());
        write!(f, "VerifiedCommit(epoch {}, {adds} adds, {removes} removes)", self.epoch())
    }
}

/// Judges a commit of an opaque conversation, in this order:
/// its header (`MalformedMessage`, `WrongWireFormat`, `NotACommit`, `GroupIdMismatch`, `StaleEpoch`, `FutureEpoch`),
/// the form of the GroupInfo (`MalformedMessage`, `InvalidGroupInfo`), the roster (`DuplicateMember`,
/// `MembershipMismatch`, `CredentialMismatch`), the Welcome (`WelcomeMismatch`, `MalformedMessage`), and last the
/// signatures of the GroupInfo's tree (`InvalidGroupInfo`), of which there is one for each leaf.
///
/// Whether the references were claimed for this conversation, and who may add and remove whom, is for the caller.
pub fn judge(
    stored: &Stored,
    commit: &[u8],
    group_info: &[u8],
    welcome: Option<&[u8]>,
    declared: &Declared,
) -> Result<VerifiedCommit, Refusal> {
    header(stored, commit)?;
    let claim = group_info::Claim::parse(group_info).map_err(no_suite_of_its_own)?;
    fits(stored, declared, &claim.view)?;
    let expected = expected_roster(stored, declared)?;
    // The checks without signatures come first: a tree has up to 5,000 signatures.
    roster(&claim.view, &expected, declared)?;
    welcomed(stored, welcome, declared)?;
    let view = claim.verify()?;
    // Again, since only now the leaves outside of their lifetime are known.
    let leaves = roster(&view, &expected, declared)?;
    Ok(VerifiedCommit {
        group_id: stored.group_id.clone(),
        left: stored.epoch,
        commit: commit.to_vec(),
        group_info: group_info.to_vec(),
        welcome: welcome.map(<[u8]>::to_vec),
        adds: declared.adds.clone(),
        removes: declared.removes.clone(),
        leaves,
    })
}

fn header(stored: &Stored, commit: &[u8]) -> Result<(), Refusal> {
    let framing = framing::opaque_commit(commit)?;
    if framing.group_id != stored.group_id {
        return Err(Refusal::new("GroupIdMismatch", "the commit is for another group"));
    }
    let at = |name, words: &str| {
        let detail = Detail::new(format!("the commit is for epoch {}, {words} {}", framing.epoch, stored.epoch));
        Err(Refusal::new(name, detail.with("currentEpoch", stored.epoch.0)))
    };
    match framing.epoch.cmp(&stored.epoch) {
        std::cmp::Ordering::Less => at("StaleEpoch", "and another one won it: the group is at epoch"),
        std::cmp::Ordering::Greater => at("FutureEpoch", "but the group is only at epoch"),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// A group never changes its suite, so here one that we do not serve is one among other mistakes.
fn no_suite_of_its_own(refusal: Refusal) -> Refusal {
    if refusal.name == "UnsupportedCipherSuite" {
        invalid_group_info("its cipher suite is not the group's")
    } else {
        refusal
    }
}

/// What can be said about the GroupInfo before its signatures are verified.
fn fits(stored: &Stored, declared: &Declared, view: &group_info::GroupView) -> Result<(), Refusal> {
    if view.group_id != stored.group_id {
        return Err(invalid_group_info("it is of another group"));
    }
    if view.epoch != stored.epoch.next() {
        return Err(invalid_group_info("it is not of the epoch that the commit makes"));
    }
    if view.cipher_suite != stored.cipher_suite {
        return Err(invalid_group_info("its cipher suite is not the group's"));
    }
    let mut keys = HashSet::new();
    if !view.leaves.iter().all(|leaf| keys.insert(&leaf.signature_key)) {
        return Err(duplicate("two leaves of the new tree have the same signature key"));
    }
    let signer = view.leaf(view.signer).ok_or_else(|| invalid_group_info("its signer has no leaf"))?;
    if !declared.committer.signature_keys.contains(&signer.signature_key) {
        return Err(invalid_group_info("it is not signed by the committer's leaf"));
    }
    Ok(())
}

type Expected = HashMap<(Did, DeviceId), StoredLeaf>;

/// The leaves that the new tree must have: those stored, less the removes, plus the adds.
///
/// A device that is removed and added again (its client lost the group) has its place in this map again.
fn expected_roster(stored: &Stored, declared: &Declared) -> Result<Expected, Refusal> {
    // Another server may call a device as one of ours is called: only with its account it is one.
    let key = |leaf: &StoredLeaf| (leaf.account.clone(), leaf.device.clone());
    let mut expected: Expected = stored.leaves.iter().map(|leaf| (key(leaf), leaf.clone())).collect();
    if expected.get(&key(&declared.committer)) != Some(&declared.committer) {
        return Err(membership("the committer has no leaf in this group"));
    }
    for (account, device) in &declared.removes {
        if (account, device) == (&declared.committer.account, &declared.committer.device) {
            return Err(membership("a commit cannot remove its own committer"));
        }
        if expected.remove(&(account.clone(), device.clone())).is_none() {
            return Err(membership("a declared remove is not a leaf of this group"));
        }
    }
    for add in &declared.adds {
        let DeclaredAdd { account, device, signature_keys, .. } = add.clone();
        let leaf = StoredLeaf { account, device, signature_keys };
        if expected.insert(key(&leaf), leaf).is_some() {
            return Err(duplicate("a declared add is already a member, or is declared twice"));
        }
    }
    let mut keys = HashSet::new();
    if !expected.values().flat_map(|leaf| &leaf.signature_keys).all(|key| keys.insert(key)) {
        return Err(duplicate("a declared add has the signature key of another member"));
    }
    Ok(expected)
}

fn roster(view: &group_info::GroupView, expected: &Expected, declared: &Declared) -> Result<Vec<StoredLeaf>, Refusal> {
    let by_key: HashMap<_, _> =
        expected.values().flat_map(|leaf| leaf.signature_keys.iter().map(move |key| (key, leaf))).collect();
    let added: HashSet<_> = declared.adds.iter().map(|add| (&add.account, &add.device)).collect();
    let mut seen = HashSet::new();
    let mut leaves = Vec::with_capacity(view.leaves.len());
    for leaf in &view.leaves {
        let known = by_key.get(&leaf.signature_key).copied();
        let member = match known {
            Some(member) => member,
            None => by_credential(expected, &leaf.identity)?,
        };
        if !seen.insert((&member.account, &member.device)) {
            return Err(duplicate("two leaves of the new tree are of the same device"));
        }
        if !identity::names(&leaf.identity, &member.account, &member.device) {
            let detail = Detail::new("a leaf's identity is not its account, or not its account and device");
            return Err(Refusal::new("CredentialMismatch", detail.with("device", member.device.as_str())));
        }
        if added.contains(&(&member.account, &member.device)) {
            if !leaf.fresh {
                return Err(membership("a declared add is not new in the new tree"));
            }
            if leaf.stale {
                return Err(invalid_group_info("an added leaf is outside of its key package's lifetime"));
            }
        }
        // What another server's device signs with is known from here on.
        let learned = known.is_none().then(|| vec![leaf.signature_key.clone()]);
        let signature_keys = learned.unwrap_or_else(|| member.signature_keys.clone());
        leaves.push(StoredLeaf { signature_keys, ..member.clone() });
    }
    // Every leaf is expected and no two are the same, so that equal counts mean equal sets.
    if leaves.len() != expected.len() {
        return Err(membership("the new tree lacks a member that is no declared remove, or a declared add"));
    }
    Ok(leaves)
}

/// Whose leaf it is that no known key is of: the one declared add of another server that it names. Two devices of one
/// account are told apart only if their leaves name them.
fn by_credential<'a>(expected: &'a Expected, identity: &[u8]) -> Result<&'a StoredLeaf, Refusal> {
    let foreign = expected.values().filter(|member| member.signature_keys.is_empty());
    let mut named = foreign.filter(|member| identity::names(identity, &member.account, &member.device));
    match (named.next(), named.next()) {
        (Some(member), None) => Ok(member),
        (Some(_), Some(_)) => {
            let why = "leaves of two devices of one account on another server must name their devices";
            Err(Refusal::new("CredentialMismatch", why))
        }
        (None, _) => Err(membership("the new tree has a leaf that is no member and no declared add")),
    }
}

fn welcomed(stored: &Stored, welcome: Option<&[u8]>, declared: &Declared) -> Result<(), Refusal> {
    let mismatch = |why: &str| Err(Refusal::new("WelcomeMismatch", why));
    let bytes = match (welcome, declared.adds.is_empty()) {
        (Some(bytes), false) => bytes,
        (None, true) => return Ok(()),
        (Some(_), true) => return mismatch("there is a Welcome, but nobody is added"),
        (None, false) => return mismatch("somebody is added, but there is no Welcome"),
    };
    let outside = welcome::read(bytes)?;
    if outside.cipher_suite != stored.cipher_suite {
        return mismatch("the Welcome's cipher suite is not the group's");
    }
    let declared_references: HashSet<_> = declared.adds.iter().map(|add| &add.reference).collect();
    let references: HashSet<_> = outside.references.iter().collect();
    if declared_references.len() != declared.adds.len() || references.len() != outside.references.len() {
        return mismatch("two new members have the same key package reference");
    }
    if references != declared_references {
        return mismatch("the Welcome is not for exactly the declared adds");
    }
    Ok(())
}

fn duplicate(why: &'static str) -> Refusal {
    Refusal::new("DuplicateMember", why)
}

#[cfg(test)]
mod tests;
