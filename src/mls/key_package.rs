//! A key package enters a pool only if a member could use it as it is, and only for the device that it names.

use openmls::ciphersuite::hash_ref::make_key_package_ref;
use openmls::prelude::{
    BasicCredential, Ciphersuite, CredentialType, KeyPackage, KeyPackageIn, KeyPackageVerifyError, ProtocolVersion,
};
use openmls::treesync::errors::LifetimeError;
use openmls_rust_crypto::RustCrypto;
use tls_codec::Deserialize;

use super::limits::{KEY_PACKAGE_BYTES, KEY_PACKAGE_KEPT_MS, KEY_PACKAGE_REMAINING_MS};
use super::refusals::{malformed, unsupported_suite, within};
use super::{identity, suite, wire};
use crate::types::{DeviceId, Did, Hash, Refusal, UnixMillis};

/// Proof that a key package was checked for one device. Only [`check`] makes one.
#[expect(clippy::manual_non_exhaustive, reason = "non_exhaustive would let the rest of this crate make one")]
pub struct CheckedKeyPackage {
    /// The key package reference (RFC 9420 section 5.2), 32 bytes.
    pub reference: Vec<u8>,
    pub cipher_suite: u16,
    /// To find the same init key in two key packages: one use of it would open the Welcomes of both.
    pub init_key_hash: Hash,
    pub last_resort: bool,
    /// When the key package ends, or when we stop handing it out, whichever comes first.
    pub expires_at: UnixMillis,
    /// As an MLSMessage.
    pub bytes: Vec<u8>,
    _checked: (),
}

impl std::fmt::Debug for CheckedKeyPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CheckedKeyPackage(suite {}, {} bytes)", self.cipher_suite, self.bytes.len())
    }
}

/// Checks a KeyPackage, raw or as an MLSMessage, that `device` of `account` publishes, signed by one of the device's keys.
///
/// Refusals: `MalformedMessage`, `UnsupportedCipherSuite`, `InvalidKeyPackage` (signatures, keys, not valid yet),
/// `CapabilitiesIncomplete`, `CredentialMismatch`, `SignatureKeyMismatch`, `KeyPackageExpired` (a day left, or less).
pub fn check(
    bytes: &[u8],
    account: &Did,
    device: &DeviceId,
    device_keys: &[Vec<u8>],
    now: UnixMillis,
) -> Result<CheckedKeyPackage, Refusal> {
    let raw = unwrapped(bytes)?;
    let package = verified(raw)?;
    let cipher_suite = u16::from(package.ciphersuite());
    capable(&package)?;

    let leaf = package.leaf_node();
    let claimed = BasicCredential::try_from(leaf.credential().clone());
    if !claimed.is_ok_and(|claimed| identity::names(claimed.identity(), account, device)) {
        let why = "the credential's identity is not this account, or not this account and device";
        return Err(Refusal::new("CredentialMismatch", why));
    }
    if !device_keys.iter().any(|key| key == leaf.signature_key().as_slice()) {
        return Err(Refusal::new("SignatureKeyMismatch", "the signature key is none of this device's keys"));
    }

    let reference = make_key_package_ref(raw, package.ciphersuite(), &RustCrypto::default());
    let reference = reference.map_err(|_| invalid("its reference cannot be computed"))?;
    Ok(CheckedKeyPackage {
        reference: reference.as_slice().to_vec(),
        cipher_suite,
        init_key_hash: Hash::of(package.hpke_init_key().as_slice()),
        last_resort: package.last_resort(),
        expires_at: expiry(&package, now)?,
        bytes: [&wire::KEY_PACKAGE_HEADER, raw].concat(),
        _checked: (),
    })
}

/// The KeyPackage itself. A raw one begins with its version and suite; that a raw one of suite 5 begins like an
/// MLSMessage does not matter, because behind its suite stands no second version.
pub(super) fn unwrapped(bytes: &[u8]) -> Result<&[u8], Refusal> {
    within(bytes, KEY_PACKAGE_BYTES)?;
    match bytes.strip_prefix(&wire::KEY_PACKAGE_HEADER) {
        Some(raw) if raw.starts_with(&[0, 1]) => Ok(raw),
        _ => Ok(bytes),
    }
}

fn verified(raw: &[u8]) -> Result<KeyPackage, Refusal> {
    let number = wire::number_at(raw, 2).filter(|_| raw.starts_with(&[0, 1]));
    let number = number.ok_or_else(|| malformed("the bytes are not a KeyPackage of MLS 1.0"))?;
    if !suite::is_allowed(number) {
        return Err(unsupported_suite(number));
    }
    let package = KeyPackageIn::tls_deserialize_exact(raw);
    let package = package.map_err(|_| malformed("the bytes are not exactly one KeyPackage"))?;
    package.validate(&RustCrypto::default(), ProtocolVersion::Mls10).map_err(|error| match error {
        KeyPackageVerifyError::LifetimeError(LifetimeError::Expired { .. }) => expired(),
        KeyPackageVerifyError::LifetimeError(_) => invalid("it is not valid yet"),
        KeyPackageVerifyError::UnsupportedExtension => incomplete("an extension that it has"),
        KeyPackageVerifyError::InitKeyEqualsEncryptionKey => invalid("its init key is its encryption key"),
        KeyPackageVerifyError::InvalidLeafNodeSignature | KeyPackageVerifyError::InvalidSignature => {
            invalid("a signature is wrong")
        }
        _ => invalid("it does not follow RFC 9420 section 10"),
    })
}

/// openmls lets a leaf leave out what it plainly uses; members refuse to add it then (RFC 9420 section 7.2).
fn capable(package: &KeyPackage) -> Result<(), Refusal> {
    let capabilities = package.leaf_node().capabilities();
    if !capabilities.versions().contains(&ProtocolVersion::Mls10) {
        return Err(incomplete("MLS 1.0"));
    }
    let own: Ciphersuite = package.ciphersuite();
    if !capabilities.ciphersuites().contains(&own.into()) {
        return Err(incomplete("its own cipher suite"));
    }
    let credential: CredentialType = package.leaf_node().credential().credential_type();
    if !capabilities.credentials().contains(&credential) {
        return Err(incomplete("its own credential type"));
    }
    Ok(())
}

/// Against the clock that we were given; openmls has looked at the system's already.
fn expiry(package: &KeyPackage, now: UnixMillis) -> Result<UnixMillis, Refusal> {
    let milliseconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000);
    let lifetime = package.life_time();
    if milliseconds(lifetime.not_before()) > now.0 {
        return Err(invalid("it is not valid yet"));
    }
    let end = milliseconds(lifetime.not_after());
    if end < now.0.saturating_add(KEY_PACKAGE_REMAINING_MS) {
        return Err(expired());
    }
    Ok(UnixMillis(end.min(now.0.saturating_add(KEY_PACKAGE_KEPT_MS))))
}

fn invalid(why: &str) -> Refusal {
    Refusal::new("InvalidKeyPackage", format!("the key package is not valid: {why}"))
}

fn incomplete(what: &str) -> Refusal {
    Refusal::new("CapabilitiesIncomplete", format!("the leaf's capabilities do not list {what}"))
}

fn expired() -> Refusal {
    Refusal::new("KeyPackageExpired", "the key package ends within a day, or has ended")
}

#[cfg(test)]
mod tests;
