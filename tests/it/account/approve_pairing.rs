use std::sync::Arc;

use rookery::lexicon::account::approve_pairing::{ApprovePairing, Input};
use rookery::lexicon::account::revoke_device::RevokeDevice;
use rookery::types::{Bytes, Clock};
use rookery_client::PairingCode;
use rookery_testkit::Person;

use super::{device_entries, revocation};
use crate::support::{Handmade, TestServer, at_once, certify, refused};

/// A new device of that account, which shows a code.
async fn newcomer(server: &TestServer, of: &Person) -> (Person, PairingCode) {
    let device = Person::new("newcomer", Arc::clone(of.account()), server.service()).unwrap();
    let code = device.begin_pairing().await.unwrap();
    (device, code)
}

async fn approval(by: &Person, code: &PairingCode) -> Input {
    let certificate = by.vouch_for(&code.keys).await.unwrap();
    Input { pairing: code.pairing.clone(), certificate, payload: Bytes(b"sealed".to_vec()) }
}

#[tokio::test]
async fn an_approved_device_is_certified_and_an_entry_of_the_account_says_by_whom() {
    let server = TestServer::start().await;
    let account = server.account();
    let first = Handmade::new(&server, Arc::clone(&account));
    first.register().await.unwrap();
    let device = Person::new("newcomer", account, server.service()).unwrap();
    let code = device.begin_pairing().await.unwrap();
    let certificate = first.vouch_for(&code.keys).await;
    let input = Input { pairing: code.pairing, certificate: certificate.clone(), payload: Bytes(vec![1; 4096]) };
    assert_eq!(first.procedure::<ApprovePairing>(&input).await.unwrap().device, device.device().as_str());

    assert_eq!(device.devices().await.unwrap()[0].state, "certified");
    assert_eq!(device.devices().await.unwrap()[0].platform.as_deref(), Some(std::env::consts::OS));
    assert!(device.device_chain().await.unwrap().device(device.device()).is_some());
    server.settled().await;
    let entry = device_entries(&first.events().await).pop().unwrap();
    assert_eq!((entry.state.as_str(), entry.link, entry.account), ("certified", Some(certificate), None));
    server.stop().await;
}

#[tokio::test]
async fn the_same_approval_gets_the_same_answer_and_another_is_too_late() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let (device, code) = newcomer(&server, &alice).await;
    let input = approval(&alice, &code).await;
    let answer = alice.procedure::<ApprovePairing>(&input).await.unwrap();
    assert_eq!(alice.procedure::<ApprovePairing>(&input).await.unwrap(), answer);
    let other = Input { payload: Bytes(b"another".to_vec()), ..input.clone() };
    refused(alice.procedure::<ApprovePairing>(&other).await, 409, "PairingApproved");
    let theirs = approval(&mallory, &code).await;
    refused(mallory.procedure::<ApprovePairing>(&theirs).await, 409, "PairingApproved");
    assert_eq!(device.claim_pairing(&code).await.unwrap().payload.0, b"sealed");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_approvals_that_race_one_wins_whoever_they_are_by() {
    let server = TestServer::start().await;
    for round in 0..6 {
        let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
        let second = server.second_device(&alice).await;
        certify(&alice, &second).await;
        let (device, code) = newcomer(&server, &alice).await;
        // Of one account, which compete for a place in its chain too, or of two.
        let rival = if round % 2 == 0 { second } else { mallory };
        let approvers = [Arc::clone(&alice), rival];
        let mut calls = Vec::new();
        for approver in approvers {
            let input = approval(&approver, &code).await;
            calls.push(async move { approver.procedure::<ApprovePairing>(&input).await });
        }
        let answers = at_once(calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        let lost = answers.into_iter().find_map(Result::err).unwrap();
        assert!(lost.is("PairingApproved") || lost.is("StaleDeviceChain"), "{lost}");
        if round % 2 == 0 {
            assert_eq!(device.claim_pairing(&code).await.unwrap().device, device.device().as_str());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn only_a_certified_device_approves() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let (_, code) = newcomer(&server, &alice).await;
    let input = approval(&alice, &code).await;
    refused(second.procedure::<ApprovePairing>(&input).await, 403, "DeviceUncertified");
    server.stop().await;
}

#[tokio::test]
async fn a_pairing_that_is_unknown_or_over_is_not_found() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.person("alice").await;
    let (_, code) = newcomer(&server, &alice).await;
    let input = approval(&alice, &code).await;
    let unknown = Input { pairing: "0".repeat(32), ..input.clone() };
    let unknown = refused(alice.procedure::<ApprovePairing>(&unknown).await, 404, "PairingNotFound");
    clock.advance_ms(5 * 60 * 1000);
    let late = refused(alice.procedure::<ApprovePairing>(&input).await, 404, "PairingNotFound");
    assert_eq!(unknown.body, late.body);
    assert_eq!(alice.devices().await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_for_another_key_or_out_of_its_place_approves_nothing() {
    let server = TestServer::start().await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let ((_, code), (_, other)) = (newcomer(&server, &alice).await, newcomer(&server, &alice).await);
    let (good, late) = (approval(&alice, &code).await, approval(&alice, &other).await);
    let for_another = Input { pairing: code.pairing.clone(), ..late.clone() };
    refused(alice.procedure::<ApprovePairing>(&for_another).await, 400, "DeviceLinkInvalid");
    let of_another = Input { certificate: mallory.vouch_for(&code.keys).await.unwrap(), ..good.clone() };
    refused(alice.procedure::<ApprovePairing>(&of_another).await, 400, "DeviceLinkInvalid");
    let second = server.second_device(&alice).await;
    certify(&alice, &second).await;
    refused(alice.procedure::<ApprovePairing>(&good).await, 409, "StaleDeviceChain");
    alice.approve_pairing(&code, b"").await.unwrap();

    // The server judges the place of a link without the chain: a chain that cannot be read changes nothing.
    let spoils = "update device_link set bytes = '\\x00' where seq = 1";
    sqlx::query(spoils).execute(&mut server.database.connect().await).await.unwrap();
    refused(alice.procedure::<ApprovePairing>(&late).await, 409, "StaleDeviceChain");
    server.stop().await;
}

#[tokio::test]
async fn a_key_that_another_account_has_or_that_was_revoked_is_not_certified() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let bobs = bob.begin_pairing().await.unwrap();
    let input = approval(&alice, &bobs).await;
    refused(alice.procedure::<ApprovePairing>(&input).await, 409, "DeviceKeyInUse");

    let second = server.second_device(&alice).await;
    alice.procedure::<RevokeDevice>(&revocation(second.device())).await.unwrap();
    let code = second.begin_pairing().await.unwrap();
    let input = approval(&alice, &code).await;
    refused(alice.procedure::<ApprovePairing>(&input).await, 403, "DeviceRevoked");
    server.stop().await;
}

#[tokio::test]
async fn an_account_with_50_devices_takes_no_more() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (_, code) = newcomer(&server, &alice).await;
    let input = approval(&alice, &code).await;
    let others = "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
                  select account_id, 'other ' || n, public_key, alg, kind, 'uncertified', created_at
                  from device, generate_series(1, 49) n where public_id = $1";
    let others = sqlx::query(others).bind(alice.device().as_str());
    others.execute(&mut server.database.connect().await).await.unwrap();
    refused(alice.procedure::<ApprovePairing>(&input).await, 409, "TooManyDevices");
    server.stop().await;
}
