use std::collections::BTreeSet;
use std::time::Duration;

use http::HeaderName;
use rookery::identity::{Curve, PairingRequest, SigningKey};
use rookery::lexicon::Method;
use rookery::lexicon::account::create_pairing::{CreatePairing, Input, Output};
use rookery::types::{Bytes, Clock, Did};
use rookery_client::CallError;

use crate::support::{TestServer, refused};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The pairing request of a device with a new key of that curve, to the test's server, now.
pub fn waiting(curve: Curve) -> Input {
    waiting_at(curve, Clock::System.now_seconds(), &TestServer::did())
}

/// The pairing request of a device with a new key of that curve, at that time, to that server.
fn waiting_at(curve: Curve, now_s: i64, audience: &Did) -> Input {
    let (key, kind) = (SigningKey::generate(curve), "app");
    let proof = PairingRequest::new(audience, now_s, kind, None, None).sign(&key).unwrap();
    Input {
        public_key: Bytes(key.public().raw()),
        alg: Some(key.public().alg().to_owned()),
        kind: kind.to_owned(),
        name: None,
        platform: None,
        issued_at: u64::try_from(now_s).unwrap(),
        proof: Bytes(proof.to_vec()),
    }
}

async fn create(server: &TestServer, input: &Input) -> Result<Output, CallError> {
    server.service().procedure::<CreatePairing>(input, || None).await
}

#[tokio::test]
async fn anybody_opens_a_pairing_for_a_key_of_any_curve_and_no_two_have_one_name() {
    let server = TestServer::start().await;
    let mut names = BTreeSet::new();
    for curve in [Curve::Ed25519, Curve::P256, Curve::K256] {
        let input = waiting(curve);
        for _ in 0..3 {
            let answer = create(&server, &input).await.unwrap();
            assert_eq!(answer.pairing.len(), 32, "128 bits");
            names.insert(answer.pairing);
        }
    }
    assert_eq!(names.len(), 9);
    let without_alg = Input { alg: None, ..waiting(Curve::Ed25519) };
    create(&server, &without_alg).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_is_none_is_an_invalid_request() {
    let server = TestServer::start().await;
    for (what, input) in [
        ("33 bytes without their algorithm", Input { alg: None, ..waiting(Curve::P256) }),
        ("of small order", Input { public_key: Bytes(vec![0; 32]), ..waiting(Curve::Ed25519) }),
        ("no point", Input { public_key: Bytes(vec![9; 33]), ..waiting(Curve::K256) }),
        ("32 bytes as P-256", Input { alg: Some("ES256".to_owned()), ..waiting(Curve::Ed25519) }),
        ("another algorithm", Input { alg: Some("RS256".to_owned()), ..waiting(Curve::Ed25519) }),
        ("another kind", Input { kind: "phone".to_owned(), ..waiting(Curve::Ed25519) }),
    ] {
        println!("{what}");
        refused(create(&server, &input).await, 400, "InvalidRequest");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_pairing_is_opened_by_its_own_key_alone() {
    let server = TestServer::start().await;
    let (here, now) = (TestServer::did(), Clock::System.now_seconds());
    let elsewhere = Did::parse("did:web:elsewhere.example").unwrap();
    let good = waiting(Curve::P256);
    let stolen = Input { proof: waiting(Curve::P256).proof, ..good.clone() };
    let renamed = Input { platform: Some("another".to_owned()), ..good.clone() };
    for (what, input) in [
        ("a key of somebody else", stolen),
        ("words that it did not sign", renamed),
        ("for another server", waiting_at(Curve::K256, now, &elsewhere)),
        ("an old one", waiting_at(Curve::Ed25519, now - 330, &here)),
        ("one from the future", waiting_at(Curve::Ed25519, now + 330, &here)),
    ] {
        println!("{what}");
        refused(create(&server, &input).await, 400, "PairingProofInvalid");
    }
    create(&server, &good).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_pairings_wait_at_once_and_those_that_are_over_make_room() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    create(&server, &waiting(Curve::Ed25519)).await.unwrap();
    let others = "insert into pairing (public_id, public_key, alg, kind, expires_at)
                  select 'other ' || n, public_key, alg, kind, expires_at from pairing, generate_series(1, 9999) n";
    let mut database = server.database.connect().await;
    sqlx::query(others).execute(&mut database).await.unwrap();

    refused(create(&server, &waiting(Curve::Ed25519)).await, 503, "Unavailable");
    clock.advance_ms(i64::try_from(Duration::from_mins(5).as_millis()).unwrap());
    create(&server, &waiting_at(Curve::Ed25519, clock.now_seconds(), &TestServer::did())).await.unwrap();
    let rows = sqlx::query_scalar::<_, i64>("select count(*) from pairing").fetch_one(&mut database).await.unwrap();
    assert!(rows < 10_000, "what is over is forgotten: {rows}");
    server.stop().await;
}

#[tokio::test]
async fn one_address_opens_twenty_pairings_and_leaves_room_for_others() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let ask = async |from: &str| {
        let input = waiting_at(Curve::Ed25519, clock.now_seconds(), &TestServer::did());
        let call = server.raw(CreatePairing::NSID, "").header(FORWARDED_FOR, from);
        call.json(&serde_json::to_value(input).unwrap()).send().await
    };
    for number in 0..20 {
        assert_eq!(ask("198.51.100.1").await.outcome(), (200, ""), "pairing {number}");
    }
    assert_eq!(ask("198.51.100.1").await.outcome(), (429, "RateLimitExceeded"));
    assert_eq!(ask("198.51.100.2").await.status, 200, "another address");
    // Addresses with an open pairing share half of all places; the others are reserved for addresses without one.
    let others = "insert into pairing (public_id, public_key, alg, kind, expires_at)
                  select 'other ' || n, public_key, alg, kind, expires_at
                  from (select * from pairing limit 1) as one, generate_series(1, 4979) n";
    let mut database = server.database.connect().await;
    sqlx::query(others).execute(&mut database).await.unwrap();
    assert_eq!(ask("198.51.100.2").await.outcome(), (503, "Unavailable"));
    assert_eq!(ask("198.51.100.3").await.status, 200, "an address that has none");
    clock.advance_ms(i64::try_from(Duration::from_mins(5).as_millis()).unwrap());
    assert_eq!(ask("198.51.100.1").await.status, 200, "finished pairings make room");
    server.stop().await;
}
