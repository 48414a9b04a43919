//! Key packages by somebody with no good manners.

use openmls::prelude::{BasicCredential, Capabilities, Ciphersuite, CredentialWithKey, KeyPackage, Lifetime};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::{MemoryStorage, RustCrypto};
use openmls_traits::OpenMlsProvider;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::SignatureScheme;
use tls_codec::Serialize;

use super::Handmade;

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
pub const DAY_S: u64 = 24 * 60 * 60;

/// What goes into a key package; as it begins, it is one that the server takes.
pub struct Maker {
    pub identity: Vec<u8>,
    pub capabilities: Capabilities,
    /// Seconds from now; it began an hour ago.
    pub lives_s: u64,
    pub seed: [u8; 32],
    pub public_key: [u8; 32],
}

impl Maker {
    pub fn new(device: &Handmade) -> Self {
        Self {
            identity: device.did().as_str().into(),
            capabilities: Capabilities::default(),
            lives_s: 84 * DAY_S,
            seed: device.seed,
            public_key: device.mls.public_key(),
        }
    }

    /// Always with the same secrets: what differs is said above.
    pub fn make(&self) -> Vec<u8> {
        let provider = Predictable::default();
        let signer = SignatureKeyPair::from_raw(SignatureScheme::ED25519, self.seed.to_vec(), self.public_key.to_vec());
        let credential = BasicCredential::new(self.identity.clone()).into();
        let credential = CredentialWithKey { credential, signature_key: self.public_key.as_slice().into() };
        let now_s = u64::try_from(rookery::types::Clock::System.now_seconds()).unwrap();
        let bundle = KeyPackage::builder()
            .leaf_node_capabilities(self.capabilities.clone())
            .key_package_lifetime(Lifetime::init(now_s - 3600, now_s + self.lives_s))
            .build(SUITE, &provider, &signer, credential)
            .unwrap();
        bundle.key_package().tls_serialize_detached().unwrap()
    }
}

/// "Random" numbers that are the same in every key package: its init key, and its leaf's key.
#[derive(Default)]
struct Predictable {
    crypto: RustCrypto,
    rand: Counter,
    storage: MemoryStorage,
}

#[derive(Default)]
struct Counter(std::sync::atomic::AtomicU8);

impl Counter {
    fn next(&self) -> u8 {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst)
    }
}

impl OpenMlsRand for Counter {
    type Error = std::convert::Infallible;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], Self::Error> {
        Ok([self.next(); N])
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, Self::Error> {
        Ok(vec![self.next(); len])
    }
}

impl OpenMlsProvider for Predictable {
    type CryptoProvider = RustCrypto;
    type RandProvider = Counter;
    type StorageProvider = MemoryStorage;

    fn storage(&self) -> &MemoryStorage {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &Counter {
        &self.rand
    }
}
