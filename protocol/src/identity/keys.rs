//! A public key is on its curve, canonical and not of small order, or it does not exist; a signature is 64 bytes
//! R‖S, never DER.

use ed25519_dalek::VerifyingKey as Ed25519Key;
use k256::ecdsa::{Signature as K256Signature, VerifyingKey as K256Key};
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature as P256Signature, VerifyingKey as P256Key};

use crate::types::{DeviceId, Malformed};

/// Characters of the longest key text that is looked at: an uncompressed point in base58 has 90.
const MAX_MULTIBASE_CHARS: usize = 128;

/// The three signature schemes: ES256, ES256K and EdDSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    P256,
    K256,
    Ed25519,
}

impl Curve {
    /// The JWS `alg` (RFC 7518 section 3.1, RFC 8812, RFC 8037).
    pub const fn alg(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::K256 => "ES256K",
            Self::Ed25519 => "EdDSA",
        }
    }

    pub fn from_alg(alg: &str) -> Option<Self> {
        [Self::P256, Self::K256, Self::Ed25519].into_iter().find(|curve| curve.alg() == alg)
    }

    /// The multicodec prefix of a public key, as a varint.
    const fn public_prefix(self) -> [u8; 2] {
        match self {
            Self::P256 => [0x80, 0x24],
            Self::K256 => [0xe7, 0x01],
            Self::Ed25519 => [0xed, 0x01],
        }
    }
}

/// Whether an ECDSA signature with a high S, which anybody can make from one with a low S, is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malleability {
    /// Tokens only: common libraries mint high S, and nothing is keyed on the signature's bytes.
    Tolerated,
    /// Everything that is stored or shown to a third party.
    Refused,
}

/// The signature does not hold under this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

/// A verified point on one of the three curves.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    P256(P256Key),
    K256(K256Key),
    Ed25519(Ed25519Key),
}

impl PublicKey {
    /// `raw` is 32 bytes for Ed25519; for P-256 and K-256 a SEC 1 point, 33 bytes compressed or 65 uncompressed.
    ///
    /// A compressed point does not say whether it is P-256 or K-256, so the curve has to come from elsewhere.
    pub fn from_raw(curve: Curve, raw: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed::new("public key", "not a point of its curve");
        match curve {
            Curve::P256 if is_sec1(raw) => P256Key::from_sec1_bytes(raw).map(Self::P256).map_err(|_| BAD),
            Curve::K256 if is_sec1(raw) => K256Key::from_sec1_bytes(raw).map(Self::K256).map_err(|_| BAD),
            Curve::P256 | Curve::K256 => Err(Malformed::new("public key", "expected 33 or 65 bytes of SEC 1")),
            Curve::Ed25519 => {
                let bytes = raw.try_into().map_err(|_| Malformed::new("public key", "expected 32 bytes"))?;
                if !is_canonical_edwards(bytes) {
                    return Err(Malformed::new("public key", "not in canonical form"));
                }
                let key = Ed25519Key::from_bytes(bytes).map_err(|_| BAD)?;
                if key.is_weak() {
                    return Err(Malformed::new("public key", "of small order"));
                }
                Ok(Self::Ed25519(key))
            }
        }
    }

    /// A Multikey: base58btc of the multicodec prefix and the key, compressed
    /// (W3C Controlled Identifiers section 2.2.2).
    pub fn from_multikey(text: &str) -> Result<Self, Malformed> {
        let bytes = base58btc(text)?;
        let curve =
            [Curve::P256, Curve::K256, Curve::Ed25519].into_iter().find(|c| bytes.starts_with(&c.public_prefix()));
        match (curve, bytes.get(2..)) {
            (Some(Curve::P256 | Curve::K256), Some(raw)) if raw.len() != 33 => {
                Err(Malformed::new("public key", "a Multikey holds the compressed point"))
            }
            (Some(curve), Some(raw)) => Self::from_raw(curve, raw),
            _ => Err(Malformed::new("public key", "unknown key type")),
        }
    }

    /// The `publicKeyMultibase` of a verification method, read as its `type` says: `Multikey`, or one of the two older
    /// types, whose text is the bare point without a multicodec prefix.
    pub fn from_verification_method(kind: &str, text: &str) -> Result<Self, Malformed> {
        match kind {
            "Multikey" => Self::from_multikey(text),
            "EcdsaSecp256r1VerificationKey2019" => Self::from_raw(Curve::P256, &base58btc(text)?),
            "EcdsaSecp256k1VerificationKey2019" => Self::from_raw(Curve::K256, &base58btc(text)?),
            _ => Err(Malformed::new("public key", "unknown verification method type")),
        }
    }

    pub const fn curve(&self) -> Curve {
        match self {
            Self::P256(_) => Curve::P256,
            Self::K256(_) => Curve::K256,
            Self::Ed25519(_) => Curve::Ed25519,
        }
    }

    /// The JWS `alg` that goes with this key, and no other.
    pub const fn alg(&self) -> &'static str {
        self.curve().alg()
    }

    /// 32 bytes Ed25519, 33 bytes compressed P-256 or K-256: what device ids and key tags are made of.
    pub fn raw(&self) -> Vec<u8> {
        match self {
            Self::P256(key) => key.to_encoded_point(true).as_bytes().to_vec(),
            Self::K256(key) => key.to_encoded_point(true).as_bytes().to_vec(),
            Self::Ed25519(key) => key.to_bytes().to_vec(),
        }
    }

    pub fn multikey(&self) -> String {
        let mut bytes = self.curve().public_prefix().to_vec();
        bytes.extend(self.raw());
        multibase::encode(multibase::Base::Base58Btc, bytes)
    }

    pub fn device_id(&self) -> DeviceId {
        DeviceId::of_key(&self.raw())
    }

    /// `signature` is 64 bytes: R‖S (RFC 7518 section 3.4), or RFC 8032. Ed25519 is judged strictly.
    pub fn verify(&self, message: &[u8], signature: &[u8], malleability: Malleability) -> Result<(), BadSignature> {
        match self {
            Self::P256(key) => {
                let given = P256Signature::from_slice(signature).map_err(|_| BadSignature)?;
                let low = low_s(given, given.normalize_s(), malleability)?;
                key.verify(message, &low).map_err(|_| BadSignature)
            }
            Self::K256(key) => {
                let given = K256Signature::from_slice(signature).map_err(|_| BadSignature)?;
                let low = low_s(given, given.normalize_s(), malleability)?;
                key.verify(message, &low).map_err(|_| BadSignature)
            }
            Self::Ed25519(key) => {
                let given = ed25519_dalek::Signature::from_slice(signature).map_err(|_| BadSignature)?;
                key.verify_strict(message, &given).map_err(|_| BadSignature)
            }
        }
    }
}

impl std::fmt::Debug for PublicKey {
    /// The curve alone: a key names its holder.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?})", self.curve())
    }
}

/// `normalized` is there exactly if the signature had a high S. (p256 accepts those and k256 does not; we decide.)
fn low_s<S>(given: S, normalized: Option<S>, malleability: Malleability) -> Result<S, BadSignature> {
    match (normalized, malleability) {
        (None, _) => Ok(given),
        (Some(low), Malleability::Tolerated) => Ok(low),
        (Some(_), Malleability::Refused) => Err(BadSignature),
    }
}

/// SEC 1 section 2.3.3: the identity and the compact form are not keys.
fn is_sec1(raw: &[u8]) -> bool {
    matches!((raw.len(), raw.first()), (33, Some(2 | 3)) | (65, Some(4)))
}

/// y < 2^255 − 19 (RFC 8032 section 5.1.3); the library takes y + p for y.
fn is_canonical_edwards(bytes: &[u8; 32]) -> bool {
    let all_ones = bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[31] & 0x7f == 0x7f;
    !(all_ones && bytes[0] >= 0xed)
}

fn base58btc(text: &str) -> Result<Vec<u8>, Malformed> {
    const BAD: Malformed = Malformed::new("public key", "expected multibase base58btc");
    if text.len() > MAX_MULTIBASE_CHARS {
        return Err(BAD);
    }
    match multibase::decode(text) {
        Ok((multibase::Base::Base58Btc, bytes)) => Ok(bytes),
        _ => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, Malleability, PublicKey};
    use crate::identity::signing::SigningKey;

    /// Made with OpenSSL, not with this code: curve, private key, public key as Multikey and as the older
    /// `publicKeyMultibase`, then signatures of [`MESSAGE`] with a low S, with a high S, and in DER.
    const CASES: [(Curve, &str, &str, &str, [&str; 3]); 2] = [
        (
            Curve::P256,
            "165570df62756b249308bb26a56bfd22efc3fcf7bb99945b1104dc738b3a352d",
            "zDnaeeQhzUfwXoRF2vkfUjnVRBpC4mj5DJdUx9X1yrWDnD27D",
            "zRdH3EosE8tgM3Q83rJgnbd3tvx39j2bKbAfFgrBDiaBebtM33pN9zS4qVRJfLhM5Xd6VkgaexAxkfKBR1mZTb8W5",
            [
                "57dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f94\
                 21a223b544e686f1cac3b16512150321c26b7bb4a854fe8c25a34f3f54b08d4f",
                "57dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f94\
                 de5ddc49bb19790f353c4e9aedeafcddfa7b7ef8fec29ff8ce167b83a7b29802",
                "3044022057dcd2ece66748409b0e0c2ab6c2e00a72be1b80d9ad934ef852d9b8bae51f94\
                 022021a223b544e686f1cac3b16512150321c26b7bb4a854fe8c25a34f3f54b08d4f",
            ],
        ),
        (
            Curve::K256,
            "b29e64475e4d4894fcf384c60087d1e023fca0b00a9c9b97c18ccfadae3c7b0c",
            "zQ3shp7RSicdFMwkwCygnZekFVbc7FCyoZrdPZ9Yc2Ad6Nx9K",
            "zQHcoECVqqV1GVc3Yhz67H7McG2irH3bcVuCamV75hDokWDVUR5fP6o8GvqGVK9vAfDWBQLwtfUhdUAUynCwFRNWe",
            [
                "16182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f229386\
                 382b9ec32e6699aeecf102a30fa9b8eb00233959391eea010280dd91dda8ac30",
                "16182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f229386\
                 c7d4613cd1996651130efd5cf0564713ba8ba38d7629b63abd5180faf28d9511",
                "3044022016182aa685f80a3a8a1bbc3e7c5ea142b06c333d8e34271dedf1686e2f229386\
                 0220382b9ec32e6699aeecf102a30fa9b8eb00233959391eea010280dd91dda8ac30",
            ],
        ),
    ];
    const MESSAGE: &[u8] = b"rookery signs what it says";

    #[test]
    fn a_private_key_gives_the_public_key_in_either_form() {
        for (curve, private, multikey, older, _) in CASES {
            let key = SigningKey::from_bytes(curve, &hex::decode(private).unwrap()).unwrap().public();
            assert_eq!(key.multikey(), multikey);
            assert_eq!(PublicKey::from_multikey(multikey).unwrap(), key);
            let suite = match curve {
                Curve::P256 => "EcdsaSecp256r1VerificationKey2019",
                _ => "EcdsaSecp256k1VerificationKey2019",
            };
            assert_eq!(PublicKey::from_verification_method(suite, older).unwrap(), key);
        }
    }

    #[test]
    fn a_signature_holds_with_low_s_in_64_bytes_alone() {
        for (curve, _, multikey, _, [low, high, der]) in CASES {
            let key = PublicKey::from_multikey(multikey).unwrap();
            let holds = |message: &[u8], signature: &str, rule| {
                key.verify(message, &hex::decode(signature).unwrap(), rule).is_ok()
            };
            for (signature, refused, tolerated) in [(low, true, true), (high, false, true), (der, false, false)] {
                assert_eq!(holds(MESSAGE, signature, Malleability::Refused), refused, "{curve:?} {signature}");
                assert_eq!(holds(MESSAGE, signature, Malleability::Tolerated), tolerated, "{curve:?} {signature}");
                assert!(!holds(b"another message", signature, Malleability::Tolerated), "{curve:?} {signature}");
            }
        }
    }

    #[cfg(feature = "vectors")]
    mod vectors {
        use super::{Curve, Malleability, PublicKey, SigningKey};

        fn vectors(name: &str) -> serde_json::Value {
            let path = crate::vectors::folder().join("crypto").join(name);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        }

        fn base64(text: &str) -> Vec<u8> {
            crate::types::Bytes::decode(text).unwrap().0
        }

        #[test]
        fn signatures_are_judged_as_the_public_vectors_say() {
            let fixtures = vectors("signature-fixtures.json");
            assert_eq!(fixtures.as_array().unwrap().len(), 6);
            for fixture in fixtures.as_array().unwrap() {
                let text = |key: &str| fixture[key].as_str().unwrap();
                let comment = text("comment");
                let key = PublicKey::from_verification_method(text("didDocSuite"), text("publicKeyMultibase")).unwrap();
                assert_eq!(key.alg(), text("algorithm"), "{comment}");
                assert_eq!(format!("did:key:{}", key.multikey()), text("publicKeyDid"), "{comment}");
                assert_eq!(PublicKey::from_multikey(&key.multikey()).unwrap(), key, "{comment}");
                let (message, signature) = (base64(text("messageBase64")), base64(text("signatureBase64")));
                let judged = |rule| key.verify(&message, &signature, rule).is_ok();
                let high_s = fixture["tags"].as_array().unwrap().iter().any(|tag| tag == "high-s");
                assert_eq!(judged(Malleability::Refused), fixture["validSignature"].as_bool().unwrap(), "{comment}");
                assert_eq!(judged(Malleability::Tolerated), fixture["validSignature"] == true || high_s, "{comment}");
                assert!(key.verify(b"another message", &signature, Malleability::Tolerated).is_err(), "{comment}");
            }
        }

        #[test]
        fn private_keys_give_the_did_keys_of_the_public_vectors() {
            for fixture in vectors("w3c_didkey_K256.json").as_array().unwrap() {
                let private = hex::decode(fixture["privateKeyBytesHex"].as_str().unwrap()).unwrap();
                let key = SigningKey::from_bytes(Curve::K256, &private).unwrap().public();
                assert_eq!(format!("did:key:{}", key.multikey()), fixture["publicDidKey"].as_str().unwrap());
            }
            for fixture in vectors("w3c_didkey_P256.json").as_array().unwrap() {
                let text = fixture["privateKeyBytesBase58"].as_str().unwrap();
                let (_, private) = multibase::decode(format!("z{text}")).unwrap();
                let key = SigningKey::from_bytes(Curve::P256, &private).unwrap().public();
                assert_eq!(format!("did:key:{}", key.multikey()), fixture["publicDidKey"].as_str().unwrap());
            }
        }
    }

    #[test]
    fn keys_off_the_curve_weak_not_canonical_or_of_another_length_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut plus_p = [0xff; 32];
        (plus_p[0], plus_p[31]) = (0xf0, 0x7f); // y = 3 + p, where y = 3 is on the curve
        let mut three = [0; 32];
        three[0] = 3;
        assert!(PublicKey::from_raw(Curve::Ed25519, &three).is_ok());
        for raw in [&identity[..], &[0; 32], &plus_p, &[2; 31], &[2; 33]] {
            assert!(PublicKey::from_raw(Curve::Ed25519, raw).is_err(), "{raw:02x?}");
        }
        for curve in [Curve::P256, Curve::K256] {
            let good = SigningKey::generate(curve).public().raw();
            assert!(PublicKey::from_raw(curve, &good).is_ok());
            let mut compact = good.clone();
            compact[0] = 5;
            let mut off = vec![4; 65];
            off[64] = 9;
            for raw in [&compact[..], &good[..32], &[0], &off, &[0xff; 33], &[]] {
                assert!(PublicKey::from_raw(curve, raw).is_err(), "{curve:?} {raw:02x?}");
            }
        }
        for text in ["", "z", "zz", "u7QE", "z6Mk", &"z".repeat(4000)] {
            assert!(PublicKey::from_multikey(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_uncompressed_point_has_the_same_raw_form_as_its_compressed_one() {
        for curve in [Curve::P256, Curve::K256] {
            let key = SigningKey::generate(curve).public();
            let uncompressed = match &key {
                PublicKey::P256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
                PublicKey::K256(key) => key.to_encoded_point(false).as_bytes().to_vec(),
                PublicKey::Ed25519(_) => unreachable!(),
            };
            assert_eq!(PublicKey::from_raw(curve, &uncompressed).unwrap().raw(), key.raw());
            assert_eq!(key.raw().len(), 33);
        }
    }
}
