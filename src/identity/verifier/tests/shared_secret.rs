//! The shared secret of development.

use serde_json::json;

use super::{claim_rules, payload, world};
use crate::identity::jws::{Header, sign};
use crate::identity::shared_secret::SharedSecret;
use crate::identity::token::TokenRefused;
use crate::identity::verifier::Verifier;

const SECRET: &str = "a secret that only developers know";

fn secret(text: &str) -> SharedSecret {
    SharedSecret::new(&text.to_owned().into()).unwrap()
}

#[tokio::test]
async fn a_token_signed_with_the_shared_secret_obeys_the_same_rules_and_asks_no_directory() {
    for (changes, expected) in claim_rules() {
        let mut world = world();
        world.verifier = world.verifier.with_secret(Some(secret(SECRET)));
        let token = secret(SECRET).sign(&payload(&changes));
        let judged = world.service(&token).await;
        assert_eq!(judged.map(|_| ()).map_err(TokenRefused::name), expected, "{changes}");
        if expected.is_ok() {
            assert_eq!(world.service(&token).await.unwrap_err().name(), "ReplayedToken", "{changes}");
        }
        assert_eq!(world.directory.asked(), 0);
    }
}

#[tokio::test]
async fn without_the_setting_hs256_is_refused_before_anything_else_and_says_what_it_takes() {
    let world = world();
    for claims in [json!({}), json!({ "aud": "did:web:other.example" })] {
        let refused = world.service(&secret(SECRET).sign(&payload(&claims))).await.unwrap_err();
        assert_eq!(refused.name(), "BadJwtAlgorithm");
        assert!(refused.to_string().contains("JWT_SECRET"), "{refused}");
    }
}

#[tokio::test]
async fn one_verifier_judges_a_token_whatever_another_would_say() {
    let mut world = world();
    world.verifier = world.verifier.with_secret(Some(secret(SECRET)));
    let forged = secret("another secret of somebody else's").sign(&payload(&json!({})));
    assert_eq!(world.service(&forged).await.unwrap_err().name(), "BadJwtSignature");
    assert_eq!(world.directory.asked(), 0, "the issuer's key is not tried");
    // The key of the account as a secret: what verifiers fell for that looked at the key before the algorithm.
    let raw: String = world.key.public().multikey();
    let confused = secret(&raw).sign(&payload(&json!({})));
    assert_eq!(world.service(&confused).await.unwrap_err().name(), "BadJwtSignature");
    // And a token of a key is not tried with the secret.
    assert!(world.service(&world.service_with(&json!({ "jti": "of the key" }))).await.is_ok());
    let device = sign(&Header::new("rookery-device+jwt", "HS256", None), &payload(&json!({})), &world.key);
    assert_eq!(Verifier::kind(&device).unwrap_err().name(), "BadJwtAlgorithm");
}
