//! The parts of RFC 9420's structures that openmls parses but does not show: a GroupInfo's signer, where leaves stand
//! in the tree, what each leaf came from, and the references in a Welcome.
//!
//! Field names and order are the RFC's (sections 7.2, 12.4.3). Vectors that nobody here looks into are opaque. Read
//! with `tls_deserialize_exact` of [`Deserialize`], never of `DeserializeBytes`: the latter asserts on short input.

use openmls::prelude::MlsMessageIn;
use tls_codec::{Deserialize, Serialize as _, TlsDeserialize, TlsSerialize, TlsSize, VLBytes};

use super::limits::LEAF_SLOTS;
use super::refusals::{invalid_group_info, malformed, within};
use crate::types::Refusal;

/// MLSMessage (section 6): version mls10, then the wire format.
pub(super) const KEY_PACKAGE_HEADER: [u8; 4] = [0, 1, 0, 5];
pub(super) const GROUP_INFO_HEADER: [u8; 4] = [0, 1, 0, 4];
const WELCOME_HEADER: [u8; 4] = [0, 1, 0, 3];

/// The extension type of a ratchet tree in a GroupInfo (section 17.3).
const RATCHET_TREE: u16 = 2;
/// The credential type `basic` (section 17.5).
const BASIC: u16 = 1;

#[derive(TlsDeserialize, TlsSize)]
pub(super) struct GroupInfo {
    pub context: GroupContext,
    extensions: Vec<Extension>,
    _confirmation_tag: VLBytes,
    pub signer: u32,
    _signature: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
pub(super) struct GroupContext {
    _version: u16,
    pub cipher_suite: u16,
    pub group_id: VLBytes,
    pub epoch: u64,
    _tree_hash: VLBytes,
    pub confirmed_transcript_hash: VLBytes,
    _extensions: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
struct Extension {
    kind: u16,
    data: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
#[repr(u8)]
enum Node {
    #[tls_codec(discriminant = 1)]
    Leaf(Box<LeafNode>),
    #[tls_codec(discriminant = 2)]
    Parent(Box<ParentNode>),
}

#[derive(TlsDeserialize, TlsSize)]
struct ParentNode {
    _encryption_key: VLBytes,
    _parent_hash: VLBytes,
    _unmerged_leaves: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
pub(super) struct LeafNode {
    _encryption_key: VLBytes,
    pub signature_key: VLBytes,
    credential_type: u16,
    credential: VLBytes,
    _capabilities: Capabilities,
    pub source: Source,
    _extensions: VLBytes,
    _signature: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
struct Capabilities {
    _versions: VLBytes,
    _cipher_suites: VLBytes,
    _extensions: VLBytes,
    _proposals: VLBytes,
    _credentials: VLBytes,
}

#[derive(TlsDeserialize, TlsSize)]
#[repr(u8)]
pub(super) enum Source {
    /// The leaf of somebody who was added and has not committed or updated since. Unix time in seconds.
    #[tls_codec(discriminant = 1)]
    KeyPackage { not_before: u64, not_after: u64 },
    #[tls_codec(discriminant = 2)]
    Update,
    #[tls_codec(discriminant = 3)]
    Commit(VLBytes),
}

#[derive(TlsDeserialize, TlsSerialize, TlsSize)]
pub(super) struct Welcome {
    pub cipher_suite: u16,
    pub secrets: Vec<EncryptedGroupSecrets>,
    _encrypted_group_info: VLBytes,
}

#[derive(Debug, TlsDeserialize, TlsSerialize, TlsSize)]
pub(super) struct EncryptedGroupSecrets {
    pub new_member: VLBytes,
    _kem_output: VLBytes,
    _ciphertext: VLBytes,
}

impl GroupInfo {
    /// `bytes` includes the MLSMessage header.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&GROUP_INFO_HEADER)?;
        Self::tls_deserialize_exact(body).ok()
    }

    /// Every leaf slot from left to right, blank ones too.
    pub fn leaf_slots(&self) -> Result<Vec<Option<LeafNode>>, Refusal> {
        let tree = self.extensions.iter().find(|extension| extension.kind == RATCHET_TREE);
        let tree = tree.ok_or_else(|| invalid_group_info("its ratchet_tree extension is missing"))?;
        leaf_slots(tree.data.as_slice())
    }
}

/// Node by node, because a blank is one byte here and many in memory: a tree too large is refused before it is held.
fn leaf_slots(tree: &[u8]) -> Result<Vec<Option<LeafNode>>, Refusal> {
    let unreadable = || malformed("the ratchet tree cannot be read");
    let nodes = VLBytes::tls_deserialize_exact(tree).map_err(|_| unreadable())?;
    let mut rest = nodes.as_slice();
    let (mut slots, mut is_leaf) = (Vec::new(), true);
    while !rest.is_empty() {
        let node = Option::<Node>::tls_deserialize(&mut rest).map_err(|_| unreadable())?;
        // In the array form of a tree (RFC 9420 appendix C), leaf i is node 2i.
        match (is_leaf, node) {
            (true, _) if slots.len() == LEAF_SLOTS => {
                return Err(invalid_group_info("its tree is larger than this server accepts"));
            }
            (true, Some(Node::Leaf(leaf))) => slots.push(Some(*leaf)),
            (true, None) => slots.push(None),
            (false, None | Some(Node::Parent(_))) => {}
            _ => return Err(unreadable()),
        }
        is_leaf = !is_leaf;
    }
    Ok(slots)
}

impl LeafNode {
    /// Empty if the credential is not basic: no account is named so.
    pub fn identity(&self) -> &[u8] {
        if self.credential_type == BASIC { self.credential.as_slice() } else { &[] }
    }
}

impl Welcome {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let body = bytes.strip_prefix(&WELCOME_HEADER)?;
        Self::tls_deserialize_exact(body).ok()
    }

    /// As an MLSMessage.
    pub fn write(&self) -> Option<Vec<u8>> {
        Some([&WELCOME_HEADER[..], &self.tls_serialize_detached().ok()?].concat())
    }
}

/// One MLSMessage of at most `max` bytes, and nothing behind it.
pub(super) fn message(bytes: &[u8], max: usize) -> Result<MlsMessageIn, Refusal> {
    within(bytes, max)?;
    MlsMessageIn::tls_deserialize_exact(bytes).map_err(|_| malformed("the bytes are not exactly one MLSMessage"))
}

/// The two bytes at `at`, as a number.
pub(super) fn number_at(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    pair.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use tls_codec::Serialize;

    use super::*;

    #[test]
    fn a_tree_is_refused_before_it_is_too_large_to_hold() {
        let tree = |nodes: Vec<u8>| VLBytes::new(nodes).tls_serialize_detached().unwrap();
        let blanks = |count| leaf_slots(&tree(vec![0; count]));
        assert_eq!(blanks(9).unwrap().len(), 5);
        assert_eq!(blanks(2 * LEAF_SLOTS).unwrap().len(), LEAF_SLOTS);
        assert_eq!(blanks(2 * LEAF_SLOTS + 1).err().unwrap().name, "InvalidGroupInfo");
        let parent_for_a_leaf = vec![1, 2, 0, 0, 0];
        assert_eq!(leaf_slots(&tree(parent_for_a_leaf)).err().unwrap().name, "MalformedMessage");
        assert_eq!(leaf_slots(&[5, 0]).err().unwrap().name, "MalformedMessage");
    }
}
