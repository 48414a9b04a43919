//! Secret keys. Invariants: every ECDSA signature has a low S; the secret is wiped when dropped and has no `Debug`
//! form, no serde form and no copy but [`SigningKey::secret_multibase`].

use p256::ecdsa::signature::Signer as _;
use rand_core06::OsRng;
use secrecy::zeroize::{Zeroize as _, Zeroizing};

use super::keys::{Curve, PublicKey};
use crate::types::Malformed;

/// The libraries' own key types wipe themselves.
pub enum SigningKey {
    P256(p256::ecdsa::SigningKey),
    K256(k256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl SigningKey {
    pub fn generate(curve: Curve) -> Self {
        match curve {
            Curve::P256 => Self::P256(p256::ecdsa::SigningKey::random(&mut OsRng)),
            Curve::K256 => Self::K256(k256::ecdsa::SigningKey::random(&mut OsRng)),
            Curve::Ed25519 => Self::Ed25519(ed25519_dalek::SigningKey::generate(&mut OsRng)),
        }
    }

    /// `secret` is 32 bytes: the scalar for P-256 and K-256, the seed for Ed25519 (RFC 8032 section 5.1.5).
    pub fn from_bytes(curve: Curve, secret: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("secret key", "expected 32 bytes within the order of its curve");
        let secret: &[u8; 32] = secret.try_into().map_err(|_| BAD)?;
        match curve {
            Curve::P256 => p256::ecdsa::SigningKey::from_slice(secret).map(Self::P256).map_err(|_| BAD),
            Curve::K256 => k256::ecdsa::SigningKey::from_slice(secret).map(Self::K256).map_err(|_| BAD),
            Curve::Ed25519 => Ok(Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(secret))),
        }
    }

    /// Reads the form that [`Self::secret_multibase`] writes.
    pub fn from_secret_multibase(text: &str) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("secret key", "expected a Multikey secret in base58btc");
        // 34 bytes are at most 48 characters.
        let bytes = match text.len() {
            1..=64 => multibase::decode(text),
            _ => return Err(BAD),
        };
        let bytes = match bytes {
            Ok((multibase::Base::Base58Btc, bytes)) => Zeroizing::new(bytes),
            _ => return Err(BAD),
        };
        let curves = [Curve::P256, Curve::K256, Curve::Ed25519];
        match (curves.into_iter().find(|curve| bytes.starts_with(&secret_prefix(*curve))), bytes.get(2..)) {
            (Some(curve), Some(secret)) => Self::from_bytes(curve, secret),
            _ => Err(BAD),
        }
    }

    /// `secretKeyMultibase` of a Multikey: what a key file holds.
    pub fn secret_multibase(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(34));
        bytes.extend(secret_prefix(self.curve()));
        match self {
            Self::P256(key) => {
                let mut secret = key.to_bytes();
                bytes.extend_from_slice(&secret);
                secret.as_mut_slice().zeroize();
            }
            Self::K256(key) => {
                let mut secret = key.to_bytes();
                bytes.extend_from_slice(&secret);
                secret.as_mut_slice().zeroize();
            }
            Self::Ed25519(key) => bytes.extend_from_slice(key.as_bytes()),
        }
        Zeroizing::new(multibase::encode(multibase::Base::Base58Btc, &bytes))
    }

    pub const fn curve(&self) -> Curve {
        match self {
            Self::P256(_) => Curve::P256,
            Self::K256(_) => Curve::K256,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    pub fn public(&self) -> PublicKey {
        match self {
            Self::P256(key) => PublicKey::P256(*key.verifying_key()),
            Self::K256(key) => PublicKey::K256(*key.verifying_key()),
            Self::Ed25519(key) => PublicKey::Ed25519(key.verifying_key()),
        }
    }

    /// 64 bytes: R‖S with low S, or RFC 8032. Deterministic (RFC 6979).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            // p256 leaves S as it falls: high in half of all cases.
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().unwrap_or(signature).to_bytes().into()
            }
            Self::K256(key) => {
                let signature: k256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().unwrap_or(signature).to_bytes().into()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes(),
        }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?})", self.curve())
    }
}

/// The multicodec prefix of a secret key, as a varint.
const fn secret_prefix(curve: Curve) -> [u8; 2] {
    match curve {
        Curve::P256 => [0x86, 0x26],
        Curve::K256 => [0x81, 0x26],
        Curve::Ed25519 => [0x80, 0x26],
    }
}

#[cfg(test)]
mod tests {
    use super::SigningKey;
    use crate::identity::keys::{Curve, Malleability};

    #[test]
    fn every_signature_is_low_s_and_holds_strictly() {
        for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
            let key = SigningKey::generate(curve);
            for n in 0_u8..32 {
                let signature = key.sign(&[n]);
                assert!(key.public().verify(&[n], &signature, Malleability::Refused).is_ok(), "{curve:?} {n}");
                assert!(key.public().verify(&[n + 1], &signature, Malleability::Refused).is_err(), "{curve:?} {n}");
            }
        }
    }

    #[test]
    fn a_secret_survives_its_text_form_and_never_shows_in_debug() {
        for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
            let key = SigningKey::generate(curve);
            let text = key.secret_multibase();
            assert_eq!(SigningKey::from_secret_multibase(&text).unwrap().public(), key.public());
            assert_eq!(format!("{key:?}"), format!("SigningKey({curve:?})"));
        }
        for text in ["", "z", "z6Mkr6sMxacHiEaYxj1iHUEfB3pA6UvjeHTSubfr8aqLMxqL", &"z".repeat(100)] {
            assert!(SigningKey::from_secret_multibase(text).is_err(), "{text}");
        }
        assert!(SigningKey::from_bytes(Curve::P256, &[0; 32]).is_err());
        assert!(SigningKey::from_bytes(Curve::K256, &[0xff; 32]).is_err());
        assert!(SigningKey::from_bytes(Curve::Ed25519, &[1; 31]).is_err());
    }
}
