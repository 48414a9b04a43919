//! A GroupInfo is believed only with its whole tree: every leaf's signature, every tree hash, and the signature of the
//! leaf that it names as its signer.

use openmls::messages::group_info::VerifiableGroupInfo;
use openmls::prelude::{
    BasicCredential, CreationFromExternalError, CredentialWithKey, ExternalCommitBuilderError, MlsGroup,
    MlsMessageBodyIn, ProposalStore, PublicGroup,
};
use openmls::treesync::errors::{LeafNodeValidationError, LifetimeError};
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;

use super::limits::GROUP_INFO_BYTES;
use super::refusals::{invalid_group_info, malformed, unsupported_suite, within};
use super::{suite, wire};
use crate::types::{Epoch, Refusal};

/// A group at one epoch, as a verified GroupInfo shows it.
pub struct GroupView {
    pub group_id: Vec<u8>,
    pub epoch: Epoch,
    pub cipher_suite: u16,
    /// The leaf index of whoever signed it.
    pub signer: u32,
    /// From left to right, blank slots left out.
    pub leaves: Vec<Leaf>,
    /// Covers every commit up to this epoch (RFC 9420 section 8.2): two groups that agree on it have one history.
    pub confirmed_transcript_hash: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Leaf {
    pub index: u32,
    pub signature_key: Vec<u8>,
    /// Of a basic credential; empty for any other.
    pub identity: Vec<u8>,
    /// Added by a key package and never renewed since. Every leaf that a commit adds is so.
    pub fresh: bool,
    /// Fresh, and outside of its key package's lifetime. A member may stay so for long; nobody may be added so.
    pub stale: bool,
}

impl std::fmt::Debug for GroupView {
    /// Numbers alone: leaves name people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupView(epoch {}, {} leaves)", self.epoch, self.leaves.len())
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaf({})", self.index)
    }
}

impl GroupView {
    pub fn leaf(&self, index: u32) -> Option<&Leaf> {
        self.leaves.iter().find(|leaf| leaf.index == index)
    }
}

/// Reads and verifies an MLSMessage that holds a GroupInfo with the `ratchet_tree` extension (RFC 9420 section 12.4.3).
///
/// Refusals: `MalformedMessage`, `UnsupportedCipherSuite`, `InvalidGroupInfo`. Costs a signature per leaf.
pub fn view(bytes: &[u8]) -> Result<GroupView, Refusal> {
    Claim::parse(bytes)?.verify()
}

/// A GroupInfo that was parsed and not yet verified, so that cheap refusals come before dear ones.
pub(super) struct Claim {
    pub view: GroupView,
    lifetimes: Vec<(u32, u64, u64)>,
    body: VerifiableGroupInfo,
}

impl Claim {
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        within(bytes, GROUP_INFO_BYTES)?;
        // Before openmls, to which the suite of another draft is unreadable: behind the header stand version and suite.
        if bytes.starts_with(&wire::GROUP_INFO_HEADER)
            && let Some(number) = wire::number_at(bytes, 6).filter(|number| !suite::is_allowed(*number))
        {
            return Err(unsupported_suite(number));
        }
        let read = wire::GroupInfo::read(bytes).ok_or_else(|| malformed("the bytes are not exactly one GroupInfo"))?;
        let slots = read.leaf_slots()?;
        let MlsMessageBodyIn::GroupInfo(body) = wire::message(bytes, GROUP_INFO_BYTES)?.extract() else {
            return Err(malformed("expected a GroupInfo"));
        };

        let (mut leaves, mut lifetimes) = (Vec::new(), Vec::new());
        for (index, leaf) in (0_u32..).zip(&slots) {
            let Some(leaf) = leaf else { continue };
            let fresh = if let wire::Source::KeyPackage { not_before, not_after } = leaf.source {
                lifetimes.push((index, not_before, not_after));
                true
            } else {
                false
            };
            let (signature_key, identity) = (leaf.signature_key.as_slice().to_vec(), leaf.identity().to_vec());
            leaves.push(Leaf { index, signature_key, identity, fresh, stale: false });
        }
        let context = read.context;
        let view = GroupView {
            group_id: context.group_id.into(),
            epoch: Epoch(context.epoch),
            cipher_suite: context.cipher_suite,
            signer: read.signer,
            leaves,
            confirmed_transcript_hash: context.confirmed_transcript_hash.into(),
        };
        Ok(Self { view, lifetimes, body })
    }

    pub fn verify(self) -> Result<GroupView, Refusal> {
        let Self { mut view, lifetimes, body } = self;
        let Some(tree) = body.extensions().ratchet_tree().map(|extension| extension.ratchet_tree().clone()) else {
            return Err(invalid_group_info("its ratchet_tree extension is missing"));
        };
        let provider = OpenMlsRustCrypto::default();
        let outcome =
            PublicGroup::from_external(provider.crypto(), provider.storage(), tree, body.clone(), ProposalStore::new());
        let now = match outcome {
            Ok(_) => return Ok(view),
            Err(CreationFromExternalError::LeafNodeValidation(LeafNodeValidationError::Lifetime(
                LifetimeError::Expired { now, .. } | LifetimeError::NotValidYet { now, .. },
            ))) => now,
            Err(error) => return Err(refused(&error)),
        };
        verify_without_lifetimes(&provider, body)?;
        let stale =
            |index: u32| lifetimes.iter().any(|&(leaf, from, until)| leaf == index && !(from <= now && now < until));
        for leaf in &mut view.leaves {
            leaf.stale = stale(leaf.index);
        }
        Ok(view)
    }
}

/// The same checks without the one for lifetimes, which would shut a group for good as soon as a member has been silent
/// for a key package's life (openmls#1810; RFC 9420 section 7.3 only recommends it for trees).
///
/// openmls skips it nowhere but at the door of an external commit. That door is opened and nobody walks through: the
/// commit is never built, and by the time it asks for the key of the door the group has been verified.
fn verify_without_lifetimes(provider: &OpenMlsRustCrypto, body: VerifiableGroupInfo) -> Result<(), Refusal> {
    let nobody =
        CredentialWithKey { credential: BasicCredential::new(Vec::new()).into(), signature_key: Vec::new().into() };
    let door = MlsGroup::external_commit_builder().skip_lifetime_validation();
    match door.build_group(provider, body, nobody) {
        Ok(_) | Err(ExternalCommitBuilderError::MissingExternalPub) => Ok(()),
        Err(ExternalCommitBuilderError::PublicGroupError(error)) => Err(refused(&error)),
        Err(_) => Err(invalid_group_info("its external_pub extension cannot be used")),
    }
}

/// Sentences of our own: a library's texts may change, and may say more than they should.
fn refused<E>(error: &CreationFromExternalError<E>) -> Refusal {
    use CreationFromExternalError as E;
    invalid_group_info(match error {
        E::UnknownSender => "its signer has no leaf",
        E::InvalidGroupInfoSignature => "its signature is not its signer's",
        E::TreeHashMismatch => "its tree is not the one it was signed for",
        E::DuplicateSignatureKey => "two leaves have the same signature key",
        E::DuplicateEncryptionKey => "two nodes have the same encryption key",
        E::LeafNodeValidation(_) => "a leaf lacks a capability that the group or the leaf itself needs",
        E::TreeSyncError(_) => "a leaf's signature or a parent hash is wrong",
        _ => "its tree is not valid",
    })
}

#[cfg(test)]
mod tests {
    use openmls::prelude::{Ciphersuite, KeyPackage, SignatureScheme};
    use openmls_basic_credential::SignatureKeyPair;
    use openmls_traits::signatures::Signer;
    use tls_codec::{Serialize, VLBytes};

    use super::super::fixture::{Room, key_pair, silent_alice_adds};
    use super::super::identity;
    use super::*;

    #[test]
    fn a_view_shows_the_tree_with_its_gaps() {
        let mut room = Room::of(&["alice", "bob", "carol"]);
        room.change("carol", &[], &["bob"]);
        let view = view(&room.group_info).unwrap();
        assert_eq!((view.epoch, view.cipher_suite, &view.group_id), (Epoch(2), 1, &room.group_id));
        assert_eq!(view.leaves.iter().map(|leaf| leaf.index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(view.signer, 2);
        let carol = room.leaf("carol");
        let signer = view.leaf(2).unwrap();
        assert_eq!(signer.signature_key, carol.signature_keys[0]);
        assert_eq!(signer.identity, identity(&carol.account, &carol.device).as_bytes());
        assert!(!signer.fresh && !signer.stale, "a committer's leaf is renewed");
        assert!(view.leaf(1).is_none());
        assert_eq!(view.confirmed_transcript_hash.len(), 32);
    }

    #[test]
    fn a_tree_of_another_epoch_is_not_the_signed_one() {
        let mut room = Room::of(&["alice", "bob"]);
        let before = room.group_info.clone();
        room.change("alice", &[], &[]);
        // Both have the same layout, so that the first half of the one fits the second half of the other.
        assert_eq!(before.len(), room.group_info.len());
        let half = before.len() / 2;
        let spliced = [&room.group_info[..half], &before[half..]].concat();
        assert_eq!(view(&spliced).unwrap_err().name, "InvalidGroupInfo");
    }

    #[test]
    fn behind_an_expired_leaf_the_others_are_still_looked_at() {
        let (seed, public) = key_pair();
        let signer = SignatureKeyPair::from_raw(SignatureScheme::ED25519, seed.to_vec(), public.to_vec());
        let credential = BasicCredential::new(b"bob".to_vec()).into();
        let credential = CredentialWithKey { credential, signature_key: public.as_slice().into() };
        let suite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
        let package = KeyPackage::builder().build(suite, &OpenMlsRustCrypto::default(), &signer, credential).unwrap();
        let (mut alice, group_id, [_, _, group_info]) = silent_alice_adds(package.key_package().clone());
        let (_, _, signer) = alice.parts(&group_id).unwrap();
        let signed_again = |from: usize, to: usize, with: &[u8]| {
            let body = group_info.len() - 66;
            let spoilt = [&group_info[..from], with, &group_info[to..body]].concat();
            let label = VLBytes::new(b"MLS 1.0 GroupInfoTBS".to_vec()).tls_serialize_detached().unwrap();
            let content = VLBytes::new(spoilt[4..].to_vec()).tls_serialize_detached().unwrap();
            let signature = VLBytes::new(signer.sign(&[label, content].concat()).unwrap());
            [spoilt, signature.tls_serialize_detached().unwrap()].concat()
        };
        assert_eq!(view(&signed_again(0, 0, &[])).unwrap().leaves.len(), 2, "nothing is spoilt yet");

        // Behind the confirmed transcript hash stand the group's extensions, none so far. One that demands the extension
        // 0x000a of every leaf: alice lists it, bob does not.
        assert_eq!(group_info[99], 0);
        let demanding = signed_again(99, 100, &[8, 0, 3, 5, 2, 0, 0x0a, 0, 0]);
        let refusal = view(&demanding).unwrap_err();
        assert_eq!(refusal.name, "InvalidGroupInfo");
        assert!(refusal.detail.message.contains("capability"), "{refusal}");

        // Without the extension external_pub, of another type here, nobody can join from outside; the group is as good.
        let external_pub = group_info.windows(4).rposition(|window| window == [0, 4, 0x21, 0x20]).unwrap();
        assert!(view(&signed_again(external_pub, external_pub + 2, &[0xff, 4])).is_ok());
    }
}
