use std::sync::Arc;

use rookery::lexicon::account::claim_pairing::{ClaimPairing, Input, Output};
use rookery::types::{Bytes, Clock};
use rookery_client::{CallError, PairingCode};
use rookery_testkit::Person;

use super::revocation;
use crate::support::{TestServer, at_once, refused};

async fn claim(device: &Person, input: &Input) -> Result<Output, CallError> {
    device.service().procedure::<ClaimPairing>(input, || None).await
}

async fn newcomer(server: &TestServer, of: &Person) -> (Arc<Person>, PairingCode) {
    let device = Person::new("newcomer", Arc::clone(of.account()), server.service()).unwrap();
    let code = device.begin_pairing().await.unwrap();
    (Arc::new(device), code)
}

#[tokio::test]
async fn a_new_device_claims_what_was_left_for_it_and_talks() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let (device, code) = newcomer(&server, &alice).await;
    alice.approve_pairing(&code, b"sealed to the new device").await.unwrap();
    let claimed = device.claim_pairing(&code).await.unwrap();
    assert_eq!((&claimed.account, claimed.device.as_str()), (alice.did(), device.device().as_str()));
    assert_eq!((claimed.state.as_str(), claimed.payload.as_slice()), ("certified", &b"sealed to the new device"[..]));
    assert_eq!(device.register().await.unwrap().stream, claimed.stream);

    device.publish(2, false).await.unwrap();
    let stream = bob.create_convo().await.unwrap();
    bob.add_members(&stream, &[alice.did().clone()]).await.unwrap();
    device.arrive(&stream).await.unwrap();
    alice.arrive(&stream).await.unwrap();
    assert_eq!(device.epoch(&stream).await.unwrap(), alice.epoch(&stream).await.unwrap());
    device.send(&stream, b"from the new device").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_had_registered_is_certified_by_its_pairing() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let code = second.begin_pairing().await.unwrap();
    alice.approve_pairing(&code, b"").await.unwrap();
    assert_eq!(second.claim_pairing(&code).await.unwrap().state, "certified");
    server.stop().await;
}

#[tokio::test]
async fn before_its_approval_a_pairing_is_pending() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (device, code) = newcomer(&server, &alice).await;
    let input = device.claim_of(&code).unwrap();
    refused(claim(&device, &input).await, 409, "PairingPending");
    alice.approve_pairing(&code, b"").await.unwrap();
    claim(&device, &input).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pairing_is_claimed_once_and_the_same_claim_gets_the_same_answer() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (device, code) = newcomer(&server, &alice).await;
    alice.approve_pairing(&code, b"once").await.unwrap();
    let inputs: Vec<Input> = (0..8).map(|_| device.claim_of(&code).unwrap()).collect();
    let calls = inputs.clone().into_iter().map(|input| {
        let device = Arc::clone(&device);
        async move { claim(&device, &input).await }
    });
    let answers = at_once(calls).await;
    let won = answers.iter().position(Result::is_ok).unwrap();
    let first = answers[won].as_ref().unwrap().clone();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, 409, "PairingClaimed");
    }
    assert_eq!(claim(&device, &inputs[won]).await.unwrap(), first);
    assert_eq!(claim(&device, &inputs[won]).await.unwrap(), first);
    server.stop().await;
}

#[tokio::test]
async fn to_whoever_lacks_the_key_a_pairing_that_exists_is_like_one_that_does_not() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.person("alice").await;
    let (device, code) = newcomer(&server, &alice).await;
    let (stranger, other) = newcomer(&server, &alice).await;
    let good = device.claim_of(&code).unwrap();
    let unknown = Input { pairing: "0".repeat(32), ..good.clone() };
    let unknown = refused(claim(&device, &unknown).await, 404, "PairingNotFound").body;

    // Pending, approved, claimed and over: to a stranger they are all the same.
    let wrong = [
        Input { pairing: code.pairing.clone(), ..stranger.claim_of(&other).unwrap() },
        stranger.claim_of(&code).unwrap(),
        Input { proof: Bytes(vec![0; 64]), ..good.clone() },
        Input { idem: "another-name-for-it".to_owned(), ..good.clone() },
    ];
    for step in 0..4 {
        for input in &wrong {
            assert_eq!(refused(claim(&stranger, input).await, 404, "PairingNotFound").body, unknown, "step {step}");
        }
        match step {
            0 => alice.approve_pairing(&code, b"").await.unwrap(),
            1 => drop(claim(&device, &good).await.unwrap()),
            2 => clock.advance_ms(5 * 60 * 1000),
            _ => assert_eq!(refused(claim(&device, &good).await, 404, "PairingNotFound").body, unknown, "late"),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_pairing_lives_five_minutes_to_the_millisecond() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.person("alice").await;
    let (device, code) = newcomer(&server, &alice).await;
    alice.approve_pairing(&code, b"").await.unwrap();
    clock.advance_ms(5 * 60 * 1000 - 1);
    let input = device.claim_of(&code).unwrap();
    let answer = claim(&device, &input).await.unwrap();
    assert_eq!(claim(&device, &input).await.unwrap(), answer);
    clock.advance_ms(1);
    refused(claim(&device, &input).await, 404, "PairingNotFound");
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_was_revoked_before_its_claim_is_told_so() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (device, code) = newcomer(&server, &alice).await;
    alice.approve_pairing(&code, b"").await.unwrap();
    let input = revocation(device.device());
    alice.procedure::<rookery::lexicon::account::revoke_device::RevokeDevice>(&input).await.unwrap();
    assert_eq!(claim(&device, &device.claim_of(&code).unwrap()).await.unwrap().state, "revoked");
    server.stop().await;
}
