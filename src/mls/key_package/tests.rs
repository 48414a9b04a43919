use openmls::prelude::{Capabilities, CredentialWithKey, ExtensionType, Lifetime};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use tls_codec::Serialize;

use super::super::client::Client;
use super::super::fixture::{client, did, key_pair, now};
use super::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn checked(client: &Client, bytes: &[u8]) -> Result<CheckedKeyPackage, Refusal> {
    check(bytes, client.did(), client.device(), &[client.public_key().to_vec()], now())
}

/// A key package by somebody with a key of their own and no good manners.
struct Maker {
    suite: Ciphersuite,
    identity: Vec<u8>,
    capabilities: Capabilities,
    lifetime: Lifetime,
    last_resort: bool,
    keys: ([u8; 32], [u8; 32]),
}

impl Maker {
    fn new() -> Self {
        Self {
            suite: Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
            identity: did("alice").as_str().into(),
            capabilities: Capabilities::default(),
            lifetime: Lifetime::new(84 * 24 * 60 * 60),
            last_resort: false,
            keys: key_pair(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let provider = OpenMlsRustCrypto::default();
        let scheme = self.suite.signature_algorithm();
        let (mut private, mut public) = (self.keys.0.to_vec(), self.keys.1.to_vec());
        if !super::super::SUITES.contains(&u16::from(self.suite)) {
            use openmls_traits::crypto::OpenMlsCrypto;
            (private, public) = RustCrypto::default().signature_key_gen(scheme).unwrap();
        }
        let signer = SignatureKeyPair::from_raw(scheme, private, public.clone());
        let credential = BasicCredential::new(self.identity.clone()).into();
        let credential = CredentialWithKey { credential, signature_key: public.into() };
        let mut builder =
            KeyPackage::builder().leaf_node_capabilities(self.capabilities.clone()).key_package_lifetime(self.lifetime);
        if self.last_resort {
            builder = builder.mark_as_last_resort();
        }
        let bundle = builder.build(self.suite, &provider, &signer, credential).unwrap();
        bundle.key_package().tls_serialize_detached().unwrap()
    }

    fn check(&self, at: UnixMillis) -> Result<CheckedKeyPackage, Refusal> {
        check(&self.bytes(), &did("alice"), &DeviceId::of_key(&self.keys.1), &[self.keys.1.to_vec()], at)
    }

    fn refused(&self) -> &'static str {
        self.check(now()).unwrap_err().name
    }
}

fn seconds_from_now(seconds: i64) -> u64 {
    u64::try_from(now().0 / 1000 + seconds).unwrap()
}

#[test]
fn a_key_package_is_the_same_raw_or_wrapped() {
    let alice = client("alice");
    let wrapped = alice.key_package(false).unwrap();
    let checked_wrapped = checked(&alice, &wrapped).unwrap();
    let checked_raw = checked(&alice, &wrapped[4..]).unwrap();
    assert_eq!(checked_raw.bytes, wrapped);
    assert_eq!(checked_wrapped.bytes, wrapped);
    assert_eq!(checked_raw.reference, checked_wrapped.reference);
    assert_eq!((checked_raw.reference.len(), checked_raw.cipher_suite), (32, 1));
    assert!(!checked_raw.last_resort);
    let another = checked(&alice, &alice.key_package(true).unwrap()).unwrap();
    assert!(another.last_resort);
    assert_ne!(another.reference, checked_raw.reference);
    assert_ne!(another.init_key_hash, checked_raw.init_key_hash);
}

#[test]
fn a_key_package_is_for_this_device_of_this_account() {
    let (alice, bob) = (client("alice"), client("bob"));
    let bytes = alice.key_package(false).unwrap();
    let name = |account: &Client, device: &Client, key: &Client| {
        check(&bytes, account.did(), device.device(), &[key.public_key().to_vec()], now()).unwrap_err().name
    };
    assert_eq!(name(&bob, &alice, &alice), "CredentialMismatch");
    assert_eq!(name(&alice, &bob, &alice), "CredentialMismatch");
    assert_eq!(name(&alice, &alice, &bob), "SignatureKeyMismatch");
    assert!(Maker::new().check(now()).is_ok(), "a bare DID will do");
    assert_eq!(Maker { identity: did("bob").as_str().into(), ..Maker::new() }.refused(), "CredentialMismatch");
    assert_eq!(Maker { identity: vec![0xff], ..Maker::new() }.refused(), "CredentialMismatch");
}

#[test]
fn a_key_package_is_exactly_one_key_package() {
    let alice = client("alice");
    let bytes = alice.key_package(false).unwrap();
    let long = vec![0; KEY_PACKAGE_BYTES + 1];
    let trailing = [bytes.as_slice(), &[0]].concat();
    for bytes in [&trailing[..], &trailing[4..], &bytes[..bytes.len() - 1], &bytes[..8], &[], &[0, 1], &long] {
        assert_eq!(checked(&alice, bytes).unwrap_err().name, "MalformedMessage");
    }
    for at in [bytes.len() - 1, 10] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert_eq!(checked(&alice, &flipped).unwrap_err().name, "InvalidKeyPackage", "byte {at}");
    }
}

#[test]
fn a_key_package_is_of_a_suite_that_we_serve() {
    let third = Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519;
    assert_eq!(Maker { suite: third, ..Maker::new() }.check(now()).unwrap().cipher_suite, 3);
    let p256 = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
    assert_eq!(Maker { suite: p256, ..Maker::new() }.refused(), "UnsupportedCipherSuite");

    let alice = client("alice");
    for (suite, expected) in
        [([0, 0x4d], "UnsupportedCipherSuite"), ([0, 5], "UnsupportedCipherSuite"), ([0, 3], "InvalidKeyPackage")]
    {
        let mut bytes = alice.key_package(false).unwrap();
        bytes[6..8].copy_from_slice(&suite);
        assert_eq!(checked(&alice, &bytes).unwrap_err().name, expected);
        assert_eq!(checked(&alice, &bytes[4..]).unwrap_err().name, expected, "raw");
    }
}

#[test]
fn a_leaf_lists_what_it_uses() {
    let x25519 = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
    let p256 = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
    let mls10 = vec![ProtocolVersion::Mls10];
    let other = CredentialType::Other(0xf000);
    for capabilities in [
        Capabilities::empty(),
        Capabilities::builder().versions(vec![]).build(),
        Capabilities::builder().versions(mls10.clone()).ciphersuites(vec![p256]).build(),
        Capabilities::builder().versions(mls10).ciphersuites(vec![x25519]).credentials(vec![other]).build(),
    ] {
        assert_eq!(Maker { capabilities, ..Maker::new() }.refused(), "CapabilitiesIncomplete");
    }
    assert_eq!(Maker { last_resort: true, ..Maker::new() }.refused(), "CapabilitiesIncomplete");
    let capabilities = Capabilities::builder().extensions(vec![ExtensionType::LastResort]).build();
    assert!(Maker { last_resort: true, capabilities, ..Maker::new() }.check(now()).unwrap().last_resort);
}

#[test]
fn a_key_package_lives_for_a_day_at_least_and_is_kept_for_90_at_most() {
    let ends_in = |seconds| {
        let lifetime = Lifetime::init(seconds_from_now(-3600), seconds_from_now(seconds));
        Maker { lifetime, ..Maker::new() }
    };
    assert_eq!(ends_in(-60).refused(), "KeyPackageExpired");
    assert_eq!(ends_in(24 * 60 * 60 - 60).refused(), "KeyPackageExpired");
    let end = ends_in(24 * 60 * 60 + 60).check(now()).unwrap().expires_at;
    assert!(end.0 > now().0 + DAY_MS && end.0 <= now().0 + DAY_MS + 60_000);

    let at = now();
    for not_after in [seconds_from_now(10 * 365 * 24 * 60 * 60), i64::MAX.unsigned_abs(), u64::MAX] {
        let forever = Maker { lifetime: Lifetime::init(0, not_after), ..Maker::new() };
        assert_eq!(forever.check(at).unwrap().expires_at, UnixMillis(at.0 + 90 * DAY_MS));
    }
    let later =
        Maker { lifetime: Lifetime::init(seconds_from_now(600), seconds_from_now(90 * 86_400)), ..Maker::new() };
    assert_eq!(later.refused(), "InvalidKeyPackage");
    let client_of_the_past = UnixMillis(now().0 - 2 * 60 * 60 * 1000);
    assert_eq!(ends_in(30 * 86_400).check(client_of_the_past).unwrap_err().name, "InvalidKeyPackage", "by our clock");
}
