//! A whole MLS client on openmls, for demo, tests and load: it holds secrets, so the server never makes one for a user.
//!
//! Everything is opaque (PrivateMessage) and padded; every GroupInfo has its tree. State lives in memory and dies with
//! the client. No network: bytes in, bytes out. openmls reads the system's clock for lifetimes.

mod change;
mod traffic;

use std::collections::HashMap;

use openmls::prelude::{
    BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, ExtensionType, KeyPackage, Lifetime, MlsGroup,
    MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::signatures::Signer;
use openmls_traits::types::SignatureScheme;
use tls_codec::Serialize;

pub use change::Staged;
pub use traffic::Received;

use rookery_protocol::identity::leaf_identity;
use rookery_protocol::types::{DeviceId, Did, Epoch};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// The cipher suite of these groups, in the registry of RFC 9420 section 17.1.
pub const SUITE_NUMBER: u16 = 0x0001;
/// How an MLSMessage begins that holds a KeyPackage (RFC 9420 section 6).
const KEY_PACKAGE_HEADER: [u8; 4] = [0, 1, 0, 5];
/// Application messages are padded to a multiple of this many bytes.
const PADDING_BYTES: usize = 512;
/// Messages of this many epochs back can still be read.
const PAST_EPOCHS: usize = 5;
/// 84 days, openmls' own default.
const LEAF_LIFETIME_SECONDS: u64 = 84 * 24 * 60 * 60;

/// Why a client could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the public key is not the seed's")]
    KeyMismatch,
    #[error("this client is not in that group")]
    UnknownGroup,
    #[error("no leaf of the group belongs to that device")]
    UnknownMember,
    #[error("the bytes are not what was expected: {0}")]
    Malformed(&'static str),
    #[error("{what}: {why}")]
    Mls { what: &'static str, why: String },
}

impl Error {
    /// An error of openmls while doing `what`.
    fn mls<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Mls { what, why: error.to_string() }
    }
}

/// A member of a group, as its tree has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Member {
    pub index: u32,
    /// What the credential says: `<did>#<device>`, or a bare DID.
    pub identity: String,
    /// As the identity says; of the signature key where it says none.
    pub device: DeviceId,
    pub signature_key: Vec<u8>,
}

/// One device of one account, with its groups.
pub struct Client {
    did: Did,
    device: DeviceId,
    public_key: [u8; 32],
    signer: SignatureKeyPair,
    provider: OpenMlsRustCrypto,
    groups: HashMap<Vec<u8>, MlsGroup>,
    lifetime: Option<Lifetime>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, {} groups)", self.device, self.groups.len())
    }
}

impl Client {
    /// A client whose leaf key is the device's Ed25519 key, as RFC 8032 writes them: a seed, and the public key of it.
    ///
    /// Both, because only `identity` may compute the one from the other; that they belong together is checked.
    pub fn new(did: Did, seed: [u8; 32], public_key: [u8; 32]) -> Result<Self, Error> {
        let scheme = SignatureScheme::ED25519;
        let signer = SignatureKeyPair::from_raw(scheme, seed.to_vec(), public_key.to_vec());
        let provider = OpenMlsRustCrypto::default();
        let proof = signer.sign(b"rookery client").map_err(|_| Error::KeyMismatch)?;
        let verified = provider.crypto().verify_signature(scheme, b"rookery client", &public_key, &proof);
        verified.map_err(|_| Error::KeyMismatch)?;
        let device = DeviceId::of_key(&public_key);
        Ok(Self { did, device, public_key, signer, provider, groups: HashMap::new(), lifetime: None })
    }

    /// The same for a device whose own key is another: `seed` and `public_key` are one of its further MLS keys.
    pub fn of_device(did: Did, device: DeviceId, seed: [u8; 32], public_key: [u8; 32]) -> Result<Self, Error> {
        Ok(Self { device, ..Self::new(did, seed, public_key)? })
    }

    pub fn did(&self) -> &Did {
        &self.did
    }

    pub fn device(&self) -> &DeviceId {
        &self.device
    }

    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// A fresh key package, as an MLSMessage. Its secrets stay here until a Welcome uses them; those of a last resort
    /// stay for good.
    pub fn key_package(&self, last_resort: bool) -> Result<Vec<u8>, Error> {
        let mut builder =
            KeyPackage::builder().leaf_node_capabilities(capabilities()).key_package_lifetime(self.leaf_lifetime());
        if last_resort {
            builder = builder.mark_as_last_resort();
        }
        let bundle = builder.build(SUITE, &self.provider, &self.signer, self.credential());
        let bundle = bundle.map_err(Error::mls("making a key package"))?;
        let raw = bundle.key_package().tls_serialize_detached().map_err(Error::mls("writing a key package"))?;
        Ok([&KEY_PACKAGE_HEADER, raw.as_slice()].concat())
    }

    /// A new group with a random id, and its GroupInfo at epoch 0.
    pub fn create_group(&mut self) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .padding_size(PADDING_BYTES)
            .max_past_epochs(PAST_EPOCHS)
            .use_ratchet_tree_extension(true)
            .capabilities(capabilities())
            .lifetime(self.leaf_lifetime())
            .build();
        let group = MlsGroup::new(&self.provider, &self.signer, &config, self.credential());
        let group = group.map_err(Error::mls("creating a group"))?;
        let group_id = group.group_id().as_slice().to_vec();
        self.groups.insert(group_id.clone(), group);
        let group_info = self.group_info(&group_id)?;
        Ok((group_id, group_info))
    }

    /// The GroupInfo of the current epoch with its tree, signed by this client's leaf.
    pub fn group_info(&self, group_id: &[u8]) -> Result<Vec<u8>, Error> {
        let message = self.group(group_id)?.export_group_info(self.provider.crypto(), &self.signer, true);
        message.map_err(Error::mls("exporting a GroupInfo"))?.to_bytes().map_err(Error::mls("writing a GroupInfo"))
    }

    pub fn epoch(&self, group_id: &[u8]) -> Result<Epoch, Error> {
        Ok(Epoch(self.group(group_id)?.epoch().as_u64()))
    }

    /// From left to right in the tree.
    pub fn members(&self, group_id: &[u8]) -> Result<Vec<Member>, Error> {
        let members = self.group(group_id)?.members();
        Ok(members
            .map(|member| {
                let identity = traffic::identity_of(&member.credential);
                let named = identity.split_once('#').and_then(|(_, device)| DeviceId::parse(device).ok());
                Member {
                    index: member.index.u32(),
                    device: named.unwrap_or_else(|| DeviceId::of_key(&member.signature_key)),
                    identity,
                    signature_key: member.signature_key,
                }
            })
            .collect())
    }

    /// Equal for all who share the epoch's secrets (RFC 9420 section 8.7): two that differ are in a fork.
    pub fn epoch_authenticator(&self, group_id: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.group(group_id)?.epoch_authenticator().as_slice().to_vec())
    }

    /// Forgets a group, as after a reset or a removal.
    pub fn forget(&mut self, group_id: &[u8]) -> Result<(), Error> {
        let mut group = self.groups.remove(group_id).ok_or(Error::UnknownGroup)?;
        group.delete(self.provider.storage()).map_err(Error::mls("forgetting a group"))
    }

    fn group(&self, group_id: &[u8]) -> Result<&MlsGroup, Error> {
        self.groups.get(group_id).ok_or(Error::UnknownGroup)
    }

    fn credential(&self) -> CredentialWithKey {
        let identity = leaf_identity(&self.did, &self.device).into_bytes();
        CredentialWithKey {
            credential: BasicCredential::new(identity).into(),
            signature_key: self.public_key.as_slice().into(),
        }
    }

    /// Leaves and key packages made from now on live so long.
    pub fn live_for(&mut self, seconds: u64) {
        self.lifetime = Some(Lifetime::new(seconds));
    }

    fn leaf_lifetime(&self) -> Lifetime {
        self.lifetime.unwrap_or_else(|| Lifetime::new(LEAF_LIFETIME_SECONDS))
    }
}

/// A last resort key package must list its extension (0x000a), so that all leaves do.
fn capabilities() -> Capabilities {
    let suites = [SUITE, Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519];
    Capabilities::new(None, Some(&suites), Some(&[ExtensionType::LastResort]), None, None)
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(PADDING_BYTES)
        .max_past_epochs(PAST_EPOCHS)
        .use_ratchet_tree_extension(true)
        .build()
}

impl Client {
    /// Leaves and key packages made from now on live so long.
    pub fn set_leaf_lifetime(&mut self, lifetime: Lifetime) {
        self.lifetime = Some(lifetime);
    }

    /// The group itself, with what works on it: for what this client does not offer, or an honest one never does.
    pub fn parts(&mut self, group_id: &[u8]) -> Option<(&mut MlsGroup, &OpenMlsRustCrypto, &SignatureKeyPair)> {
        Some((self.groups.get_mut(group_id)?, &self.provider, &self.signer))
    }
}
