use std::sync::Arc;

use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::revoke_device::{Input, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::get_key_packages::{self, GetKeyPackages};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::lexicon::{Method, Nothing};
use rookery::types::DeviceId;

use crate::support::{Handmade, TestServer, at_once, conversation, refused};

fn of(device: &DeviceId) -> Input {
    Input { device: device.to_string(), revocation: None }
}

#[tokio::test]
async fn a_revoked_device_is_refused_and_offered_to_nobody_at_once() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let draft = bob.draft_message(&stream, b"too late").await.unwrap();
    bob.procedure::<RevokeDevice>(&of(bob.device())).await.unwrap();

    refused(bob.procedure::<SendMessage>(&draft).await, 401, "DeviceRevoked");
    refused(bob.query::<ListDevices>(&Nothing {}).await, 401, "DeviceRevoked");
    assert_eq!(bob.devices().await.unwrap()[0].state, "revoked", "the account itself may still ask");
    let params = get_key_packages::Params { accounts: vec![bob.did().clone()] };
    let offered = alice.query::<GetKeyPackages>(&params).await.unwrap().accounts;
    assert!(offered.iter().all(|account| account.devices.is_empty()), "{offered:?}");
    server.stop().await;
}

#[tokio::test]
async fn revoking_again_says_yes_and_writes_nothing() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let calls = (0..6).map(|_| {
        let (alice, input) = (Arc::clone(&alice), of(second.device()));
        async move { alice.procedure::<RevokeDevice>(&input).await.unwrap() }
    });
    at_once(calls).await;
    alice.procedure::<RevokeDevice>(&of(second.device())).await.unwrap();

    server.settled().await;
    let page = alice.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
    let devices = page.events.iter().filter(|event| event.kind == "#device").count();
    assert_eq!(devices, 3, "two registrations, one revocation");
    server.stop().await;
}

#[tokio::test]
async fn the_account_revokes_by_a_service_token_when_the_device_is_lost() {
    let server = TestServer::start().await;
    let lost = Handmade::new(&server, server.account());
    lost.register().await.unwrap();
    let token = || Some(lost.service_token(RevokeDevice::NSID));
    lost.service.procedure::<RevokeDevice>(&of(&lost.signer.device), token).await.unwrap();
    refused(lost.procedure::<RevokeDevice>(&of(&lost.signer.device)).await, 401, "DeviceRevoked");
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_the_account_has_not_is_not_found_whoever_has_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    for unknown in [bob.device(), &DeviceId::of_key(b"nobody's")] {
        refused(alice.procedure::<RevokeDevice>(&of(unknown)).await, 404, "DeviceNotFound");
    }
    assert_eq!(bob.devices().await.unwrap()[0].state, "certified");

    let nobody = Handmade::new(&server, server.account());
    let token = || Some(nobody.service_token(RevokeDevice::NSID));
    let answer = nobody.service.procedure::<RevokeDevice>(&of(alice.device()), token).await;
    refused(answer, 404, "DeviceNotFound");
    let malformed = Input { device: "dev_".to_owned(), revocation: None };
    refused(alice.procedure::<RevokeDevice>(&malformed).await, 400, "InvalidRequest");
    server.stop().await;
}
