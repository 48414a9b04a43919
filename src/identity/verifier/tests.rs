//! One test per rule, each with the error's own name.

mod shared_secret;

use std::sync::Arc;

use serde_json::{Value, json};

use super::Verifier;
use crate::identity::body_hash;
use crate::identity::jws::{Header, sign};
use crate::identity::keys::{Curve, PublicKey};
use crate::identity::replay::ReplayMemory;
use crate::identity::resolver::tests::Directory;
use crate::identity::resolver::{ResolveError, Resolver};
use crate::identity::signing::SigningKey;
use crate::identity::token::{Claims, Rules, TokenKind, TokenRefused};
use crate::identity::{DeviceSigner, service_token};
use crate::types::{Clock, Did, UnixMillis};

const NSID: &str = "blue.catbird.mls.sendMessage";
const AUD: &str = "did:web:chat.example";
const ALICE: &str = "did:plc:ewvi7nxzyoun6zhxrhs64oiz";
const NOW_S: i64 = 1_795_000_000;

struct World {
    key: SigningKey,
    device: DeviceSigner,
    directory: Directory,
    clock: Clock,
    verifier: Verifier,
}

fn alice() -> Did {
    Did::parse(ALICE).unwrap()
}

fn world_with(account: Curve, device: Curve) -> World {
    let key = SigningKey::generate(account);
    let (directory, clock) = (Directory::new(key.public()), Clock::manual(UnixMillis(NOW_S * 1000)));
    let resolver = Arc::new(Resolver::new(directory.clone(), clock.clone()));
    let audiences = vec![AUD.to_owned(), format!("{AUD}#atproto_mls")];
    let verifier = Verifier::new(audiences, resolver, ReplayMemory::in_process(), clock.clone(), Rules::default());
    World { key, device: DeviceSigner::new(alice(), SigningKey::generate(device)), directory, clock, verifier }
}

fn world() -> World {
    world_with(Curve::K256, Curve::Ed25519)
}

/// Claims that hold, with changes: `null` takes a claim out.
fn payload(changes: &Value) -> Value {
    let mut payload = json!({ "iss": ALICE, "aud": AUD, "lxm": NSID, "exp": NOW_S + 60, "iat": NOW_S, "jti": "j" });
    for (name, value) in changes.as_object().unwrap() {
        payload[name] = value.clone();
    }
    payload.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    payload
}

impl World {
    fn service_with(&self, changes: &Value) -> String {
        sign(&Header::new("JWT", self.key.curve().alg(), None), &payload(changes), &self.key)
    }

    fn device_with(&self, changes: &Value) -> String {
        let kid = Some(self.device.device.as_str().to_owned());
        let key = self.device.key();
        sign(&Header::new("rookery-device+jwt", key.curve().alg(), kid), &payload(changes), key)
    }

    async fn service(&self, token: &str) -> Result<Claims, TokenRefused> {
        self.verifier.service(self.verifier.read_service(token, NSID)?, &|| true).await
    }

    async fn device(&self, token: &str, key: &PublicKey) -> Result<Claims, TokenRefused> {
        let unverified = self.verifier.read_device(token, NSID)?;
        self.verifier.device(unverified, key).await
    }
}

/// A change of claims, and what becomes of the token.
fn claim_rules() -> Vec<(Value, Result<(), &'static str>)> {
    let long = "é".repeat(128);
    vec![
        (json!({}), Ok(())),
        (json!({ "aud": format!("{AUD}#atproto_mls") }), Ok(())),
        (json!({ "aud": "did:web:other.example" }), Err("BadJwtAudience")),
        (json!({ "aud": format!("{AUD}#other") }), Err("BadJwtAudience")),
        (json!({ "aud": "did:web:CHAT.example" }), Err("BadJwtAudience")),
        (json!({ "aud": null }), Err("BadJwtAudience")),
        (json!({ "aud": [AUD] }), Err("BadJwt")),
        (json!({ "lxm": "blue.catbird.mls.getMessages" }), Err("BadJwtLexiconMethod")),
        (json!({ "lxm": "*" }), Err("BadJwtLexiconMethod")),
        (json!({ "lxm": null }), Err("BadJwtLexiconMethod")),
        (json!({ "exp": NOW_S - 30, "iat": null }), Ok(())),
        (json!({ "exp": NOW_S - 31, "iat": null }), Err("JwtExpired")),
        (json!({ "exp": NOW_S + 3630 }), Ok(())),
        (json!({ "exp": NOW_S + 3631 }), Err("JwtTooLong")),
        (json!({ "exp": (NOW_S + 60) * 1000 }), Err("JwtTooLong")),
        (json!({ "exp": null }), Err("BadJwt")),
        (json!({ "exp": "soon" }), Err("BadJwt")),
        (json!({ "iat": NOW_S + 30 }), Ok(())),
        (json!({ "iat": NOW_S + 31 }), Err("JwtNotYetValid")),
        (json!({ "iat": NOW_S + 20, "exp": NOW_S + 10 }), Err("BadJwt")),
        (json!({ "iat": null }), Ok(())),
        (json!({ "nbf": NOW_S + 30 }), Ok(())),
        (json!({ "nbf": NOW_S + 31 }), Err("JwtNotYetValid")),
        (json!({ "iss": format!("{ALICE}#atproto_labeler") }), Err("BadJwtIss")),
        (json!({ "iss": "alice.example" }), Err("BadJwtIss")),
        (json!({ "iss": null }), Err("BadJwtIss")),
        (json!({ "sub": ALICE }), Ok(())),
        (json!({ "sub": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa" }), Err("BadJwtSubject")),
        (json!({ "jti": null }), Err("BadJwtId")),
        (json!({ "jti": "" }), Err("BadJwtId")),
        (json!({ "jti": long }), Ok(())),
        (json!({ "jti": format!("{long}x") }), Err("BadJwtId")),
    ]
}

#[tokio::test]
async fn every_rule_on_claims_has_its_own_error_and_holds_for_both_kinds_of_token() {
    for (changes, expected) in claim_rules() {
        // A world each: no token is a replay of another.
        let world = world();
        let service = world.service(&world.service_with(&changes)).await;
        assert_eq!(service.as_ref().map(|_| ()).map_err(|refused| refused.name()), expected, "service {changes}");
        let world = self::world();
        let device = world.device(&world.device_with(&changes), &world.device.key().public()).await;
        assert_eq!(device.as_ref().map(|_| ()).map_err(|refused| refused.name()), expected, "device {changes}");
        for refused in [service.err(), device.err()].into_iter().flatten() {
            assert_eq!(refused.status(), 401);
        }
    }
}

#[tokio::test]
async fn tokens_of_every_scheme_are_accepted_and_say_who_calls() {
    for curve in [Curve::P256, Curve::K256] {
        let world = world_with(curve, Curve::P256);
        let token = service_token(&world.key, &alice(), AUD, NSID, world.clock.now());
        assert_eq!(Verifier::kind(&token), Ok(TokenKind::Service));
        let claims = world.service(&token).await.unwrap();
        assert_eq!((&claims.iss, claims.aud.as_str(), claims.lxm.as_str(), &claims.kid), (&alice(), AUD, NSID, &None));
    }
    for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
        let world = world_with(Curve::K256, curve);
        let token = world.device.token(AUD, NSID, world.clock.now(), None);
        assert_eq!(Verifier::kind(&token), Ok(TokenKind::Device));
        let unverified = world.verifier.read_device(&token, NSID).unwrap();
        assert_eq!((unverified.did(), unverified.curve()), (&alice(), curve));
        let claims = world.verifier.device(unverified, &world.device.key().public()).await.unwrap();
        assert_eq!((&claims.iss, claims.kid.as_ref()), (&alice(), Some(&world.device.device)));
        assert_eq!(world.directory.asked(), 0, "a device token needs no DID document");
    }
}

#[tokio::test]
async fn typ_and_alg_alone_choose_the_verifier() {
    let world = world();
    let ed25519 = SigningKey::generate(Curve::Ed25519);
    for (header, key, expected) in [
        (json!({ "alg": "ES256K" }), &world.key, Ok(TokenKind::Service)),
        (json!({ "typ": "jwt", "alg": "ES256K" }), &world.key, Ok(TokenKind::Service)),
        (json!({ "typ": "at+jwt", "alg": "ES256K" }), &world.key, Err("BadJwtType")),
        (json!({ "typ": "refresh+jwt", "alg": "ES256K" }), &world.key, Err("BadJwtType")),
        (json!({ "typ": "dpop+jwt", "alg": "ES256K" }), &world.key, Err("BadJwtType")),
        (json!({ "typ": "atproto-space-delegation+jwt", "alg": "ES256K" }), &world.key, Err("BadJwtType")),
        (json!({ "typ": "", "alg": "ES256K" }), &world.key, Err("BadJwtType")),
        (json!({ "typ": "JWT", "alg": "none" }), &world.key, Err("BadJwtAlgorithm")),
        (json!({ "typ": "JWT", "alg": "HS256" }), &world.key, Ok(TokenKind::Service)),
        (json!({ "typ": "JWT", "alg": "HS384" }), &world.key, Err("BadJwtAlgorithm")),
        (json!({ "typ": "JWT", "alg": "es256k" }), &world.key, Err("BadJwtAlgorithm")),
        (json!({ "typ": "JWT", "alg": "EdDSA" }), &ed25519, Err("BadJwtAlgorithm")),
        (json!({ "typ": "rookery-device+jwt", "alg": "EdDSA" }), &ed25519, Ok(TokenKind::Device)),
        (json!({ "typ": "rookery-device+jwt", "alg": "HS256" }), &ed25519, Err("BadJwtAlgorithm")),
    ] {
        let parsed: Header = serde_json::from_value(header.clone()).unwrap();
        let token = sign(&parsed, &payload(&json!({})), key);
        assert_eq!(Verifier::kind(&token).map_err(TokenRefused::name), expected, "{header}");
    }
    assert_eq!(Verifier::kind("").unwrap_err().name(), "AuthenticationRequired");
    for token in ["x", "a.b", "a.b.c", "a.b.c.d"] {
        assert_eq!(Verifier::kind(token).unwrap_err().name(), "BadJwt", "{token}");
    }
}

#[tokio::test]
async fn a_token_of_one_kind_is_not_judged_by_the_other_verifier() {
    let world = world();
    let (service, device) = (world.service_with(&json!({})), world.device_with(&json!({})));
    assert_eq!(world.service(&device).await.unwrap_err().name(), "BadJwtType");
    assert_eq!(world.verifier.read_device(&service, NSID).err().unwrap().name(), "BadJwtType");
}

#[tokio::test]
async fn a_token_whose_alg_is_not_its_keys_is_refused() {
    let world = world();
    let token = sign(&Header::new("JWT", "ES256", None), &payload(&json!({})), &world.key);
    assert_eq!(world.service(&token).await.unwrap_err().name(), "BadJwtAlgorithm");
    let kid = Some(world.device.device.as_str().to_owned());
    let token = sign(&Header::new("rookery-device+jwt", "ES256", kid), &payload(&json!({})), world.device.key());
    let refused = world.device(&token, &world.device.key().public()).await.unwrap_err();
    assert_eq!(refused.name(), "BadJwtAlgorithm");
}

#[tokio::test]
async fn high_s_is_tolerated_and_is_the_same_token() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    for curve in [Curve::P256, Curve::K256] {
        let world = world_with(curve, Curve::Ed25519);
        let token = world.service_with(&json!({}));
        let (input, signature) = token.rsplit_once('.').unwrap();
        let low = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let high: Vec<u8> = if curve == Curve::P256 {
            let low = p256::ecdsa::Signature::from_slice(&low).unwrap();
            p256::ecdsa::Signature::from_scalars(low.r(), -low.s()).unwrap().to_vec()
        } else {
            let low = k256::ecdsa::Signature::from_slice(&low).unwrap();
            k256::ecdsa::Signature::from_scalars(low.r(), -low.s()).unwrap().to_vec()
        };
        let twin = format!("{input}.{}", URL_SAFE_NO_PAD.encode(high));
        assert_ne!(twin, token);
        assert!(world.service(&twin).await.is_ok(), "{curve:?}");
        assert_eq!(world.service(&token).await.unwrap_err().name(), "ReplayedToken", "{curve:?}");
    }
}

#[tokio::test]
async fn a_der_signature_is_refused() {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let world = world();
    let token = world.service_with(&json!({}));
    let (input, signature) = token.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let der = k256::ecdsa::Signature::from_slice(&raw).unwrap().to_der();
    let token = format!("{input}.{}", URL_SAFE_NO_PAD.encode(der.as_bytes()));
    assert_eq!(world.service(&token).await.unwrap_err().name(), "BadJwtSignature");
}

#[tokio::test]
async fn a_token_works_once_and_a_forged_one_does_not_use_up_its_jti() {
    let world = world();
    let forged = sign(&Header::new("JWT", "ES256K", None), &payload(&json!({})), &SigningKey::generate(Curve::K256));
    assert_eq!(world.service(&forged).await.unwrap_err().name(), "BadJwtSignature");
    let token = world.service_with(&json!({}));
    assert!(world.service(&token).await.is_ok());
    assert_eq!(world.service(&token).await.unwrap_err().name(), "ReplayedToken");
    assert!(world.service(&world.service_with(&json!({ "jti": "k" }))).await.is_ok());

    let world = self::world();
    let key = world.device.key().public();
    let other = DeviceSigner::new(alice(), SigningKey::generate(Curve::Ed25519));
    let kid = Some(world.device.device.as_str().to_owned());
    let forged = sign(&Header::new("rookery-device+jwt", "EdDSA", kid), &payload(&json!({})), other.key());
    assert_eq!(world.device(&forged, &key).await.unwrap_err().name(), "BadJwtSignature");
    let token = world.device_with(&json!({}));
    assert!(world.device(&token, &key).await.is_ok());
    assert_eq!(world.device(&token, &key).await.unwrap_err().name(), "ReplayedToken");
}

#[tokio::test]
async fn a_changed_account_key_is_fetched_once_and_the_token_tried_again() {
    for new in [Curve::K256, Curve::P256] {
        let mut world = world();
        assert!(world.service(&world.service_with(&json!({ "jti": "1" }))).await.is_ok());
        let old = std::mem::replace(&mut world.key, SigningKey::generate(new));
        world.directory.set(Ok(world.key.public()));
        assert!(world.service(&world.service_with(&json!({ "jti": "2" }))).await.is_ok());
        assert_eq!(world.directory.asked(), 2);
        // The old key is dead, and says so without another question to the directory.
        for _ in 0..3 {
            let token = sign(&Header::new("JWT", old.curve().alg(), None), &payload(&json!({ "jti": "3" })), &old);
            assert!(matches!(world.service(&token).await.unwrap_err().name(), "BadJwtSignature" | "BadJwtAlgorithm"));
        }
        assert_eq!(world.directory.asked(), 2);
    }
}

#[tokio::test]
async fn an_issuer_without_a_document_is_unknown_and_an_unreachable_directory_is_our_fault() {
    for (answer, name, status) in [
        (ResolveError::NotFound, "UnknownDid", 401),
        (ResolveError::Unsupported("x"), "UnknownDid", 401),
        (ResolveError::Invalid("x"), "UnknownDid", 401),
        (ResolveError::Unreachable("x"), "DidUnresolvable", 503),
    ] {
        let world = world();
        world.directory.set(Err(answer));
        let refused = world.service(&world.service_with(&json!({}))).await.unwrap_err();
        assert_eq!((refused.name(), refused.status()), (name, status));
    }
}

#[tokio::test]
async fn an_account_with_only_an_ed25519_key_cannot_call() {
    let world = world();
    world.directory.set(Ok(SigningKey::generate(Curve::Ed25519).public()));
    assert_eq!(world.service(&world.service_with(&json!({}))).await.unwrap_err().name(), "BadJwtSignature");
}

#[tokio::test]
async fn a_device_token_must_name_the_device_whose_key_signed_it() {
    let world = world();
    let key = world.device.key().public();
    for kid in [None, Some("#atproto"), Some("dev_short")] {
        let header = Header::new("rookery-device+jwt", "EdDSA", kid.map(str::to_owned));
        let token = sign(&header, &payload(&json!({})), world.device.key());
        assert_eq!(world.device(&token, &key).await.unwrap_err().name(), "BadJwtKeyId", "{kid:?}");
    }
    let other = DeviceSigner::new(alice(), SigningKey::generate(Curve::Ed25519));
    let kid = Some(other.device.as_str().to_owned());
    let token = sign(&Header::new("rookery-device+jwt", "EdDSA", kid), &payload(&json!({})), world.device.key());
    assert_eq!(world.device(&token, &key).await.unwrap_err().name(), "BadJwtKeyId");
    assert_eq!(world.device(&token, &other.key().public()).await.unwrap_err().name(), "BadJwtSignature");
}

#[tokio::test]
async fn a_token_through_a_pds_is_bound_to_its_body() {
    let hash = body_hash(b"{}");
    let hex = hex::encode(crate::types::Hash::of(b"{}").as_slice());
    for (claim, body, expected) in [
        (json!(hash), "{}", Ok(())),
        (json!(body_hash(b"")), "", Ok(())),
        (json!(hash), "{ }", Err("BadJwtBodyHash")),
        (json!(hash), "", Err("BadJwtBodyHash")),
        (json!(body_hash(b"")), "{}", Err("BadJwtBodyHash")),
        (json!(format!("{hash}=")), "{}", Err("BadJwtBodyHash")),
        (json!(hash.to_lowercase()), "{}", Err("BadJwtBodyHash")),
        (json!(hex), "{}", Err("BadJwtBodyHash")),
        (json!(""), "{}", Err("BadJwtBodyHash")),
        (json!(null), "{}", Err("BadJwtBodyHash")),
        (json!(null), "", Err("BadJwtBodyHash")),
        (json!([hash]), "{}", Err("BadJwt")),
    ] {
        let world = world();
        let token = world.device_with(&json!({ "bodyHash": claim }));
        let claims = world.device(&token, &world.device.key().public()).await;
        let bound = claims.and_then(|claims| claims.check_body(body.as_bytes()));
        assert_eq!(bound.map_err(TokenRefused::name), expected, "{claim} over {body:?}");
    }
}

#[tokio::test]
async fn without_replay_memory_nobody_comes_in() {
    let mut world = world();
    let (memory, batcher) = ReplayMemory::shared(world.clock.clone(), 0);
    drop(batcher);
    world.verifier.replay = memory;
    let refused = world.service(&world.service_with(&json!({}))).await.unwrap_err();
    assert_eq!((refused.name(), refused.status()), ("ServiceUnavailable", 503));
}

#[test]
fn verifying_can_be_awaited_on_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let world = world();
    is_send(&world.service("x"));
    let unverified = world.verifier.read_device(&world.device_with(&json!({})), NSID).unwrap();
    is_send(&world.verifier.device(unverified, &world.device.key().public()));
}
