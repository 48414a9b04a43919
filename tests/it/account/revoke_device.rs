use std::sync::Arc;

use rookery::identity::{DeviceChain, DeviceLink};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device;
use rookery::lexicon::account::revoke_device::{Input, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::get_key_packages::{self, GetKeyPackages};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::lexicon::{Method, Nothing};
use rookery::types::{Bytes, DeviceId};
use serde_json::json;

use super::device_entries;
use crate::support::{AccountToken, Handmade, TestServer, at_once, certify, conversation, refused};

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
    let malformed = Input { device: "dev _".to_owned(), revocation: None };
    refused(alice.procedure::<RevokeDevice>(&malformed).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_is_not_certified_revokes_itself_alone() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (second, third) = (server.second_device(&alice).await, server.second_device(&alice).await);
    for other in [alice.device(), third.device()] {
        refused(second.procedure::<RevokeDevice>(&of(other)).await, 403, "DeviceUncertified");
    }
    second.procedure::<RevokeDevice>(&of(second.device())).await.unwrap();
    let states: Vec<String> = alice.devices().await.unwrap().into_iter().map(|device| device.state).collect();
    assert_eq!(states, ["uncertified", "certified", "revoked"]);
    server.stop().await;
}

#[tokio::test]
async fn a_revocation_by_a_link_is_in_the_chain_and_one_without_can_be_given_its_link_later() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let (second, third) = (server.second_device(&alice).await, server.second_device(&alice).await);
    certify(&alice, &second).await;
    certify(&alice, &third).await;
    let link = alice.device_chain().await.unwrap();
    alice.revoke(second.device()).await.unwrap();
    alice.procedure::<RevokeDevice>(&of(third.device())).await.unwrap();
    assert!(alice.device_chain().await.unwrap().device(third.device()).is_some(), "the chain does not say so yet");
    alice.revoke(third.device()).await.unwrap();
    let chain = alice.device_chain().await.unwrap();
    assert_eq!(chain.devices().collect::<Vec<_>>(), [alice.device()]);
    assert_eq!(chain.head().seq, link.head().seq + 2);

    server.settled().await;
    let page = alice.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
    let entries = device_entries(&page.events);
    let revoked: Vec<_> = entries.iter().filter(|entry| entry.state == "revoked").collect();
    assert_eq!(revoked.iter().map(|entry| entry.link.is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert!(entries.iter().all(|entry| entry.account.is_none()));
    let links: Vec<DeviceLink> = entries
        .iter()
        .filter_map(|entry| entry.link.as_ref())
        .map(|link| DeviceLink::decode(link.as_slice()).unwrap())
        .collect();
    assert_eq!(DeviceChain::read(alice.did(), &links).unwrap().head(), chain.head());
    server.stop().await;
}

#[tokio::test]
async fn a_revocation_must_be_the_next_link_for_this_device_and_its_repeat_says_yes() {
    let server = TestServer::start().await;
    let alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let (second, third) =
        (Handmade::new(&server, Arc::clone(&alice.account)), Handmade::new(&server, Arc::clone(&alice.account)));
    for device in [&second, &third] {
        let certificate = Some(alice.vouch_for(&device.keys()).await);
        device.register_with(&register_device::Input { certificate, ..device.registration() }).await.unwrap();
    }
    let chain = alice.chain().await;
    let by = |signer: &Handmade, link: DeviceLink| {
        let input = Input { device: signer.signer.device.to_string(), revocation: Some(Bytes(link.encode().unwrap())) };
        let alice = &alice;
        async move { alice.procedure::<RevokeDevice>(&input).await }
    };
    let good = chain.revoke(alice.signer.key(), &second.signer.device).unwrap();
    let unsigned = DeviceLink { sig: None, ..good.clone() };
    refused(by(&second, unsigned).await, 400, "DeviceLinkInvalid");
    let of_third = chain.revoke(alice.signer.key(), &third.signer.device).unwrap();
    refused(by(&second, of_third.clone()).await, 400, "DeviceLinkInvalid");
    let stranger = Handmade::new(&server, server.account());
    let forged = chain.revoke(stranger.signer.key(), &second.signer.device).unwrap();
    refused(by(&second, forged).await, 400, "DeviceLinkInvalid");

    by(&second, good.clone()).await.unwrap();
    by(&second, good).await.unwrap();
    let stale = refused(by(&third, of_third).await, 409, "StaleDeviceChain");
    assert_eq!((&stale.body["generation"], &stale.body["seq"]), (&json!(1), &json!(4)));
    server.settled().await;
    assert_eq!(device_entries(&alice.events().await).len(), 4, "a repeat writes nothing");
    server.stop().await;
}

#[tokio::test]
async fn whoever_shares_a_conversation_with_the_device_is_told_once_to_remove_its_leaf() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let (carol, stranger) = (server.person("carol").await, server.person("stranger").await);
    // Carol shares a stream with Alice's account, but not with this device.
    let second = server.second_device(alice).await;
    certify(alice, &second).await;
    let other = second.create_convo().await.unwrap();
    second.add_members(&other, &[carol.did().clone()]).await.unwrap();

    alice.revoke(alice.device()).await.unwrap();
    let token = || Some(alice.service_token(RevokeDevice::NSID));
    alice.service().procedure::<RevokeDevice>(&of(alice.device()), token).await.unwrap();
    server.settled().await;
    for (who, told) in [(bob, 1), (&carol, 0), (&stranger, 0)] {
        let page = who.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
        let others: Vec<_> = device_entries(&page.events).into_iter().filter(|entry| entry.account.is_some()).collect();
        assert_eq!(others.len(), told, "{}", who.name());
        for entry in others {
            assert_eq!((entry.account.as_ref(), &entry.device), (Some(alice.did()), alice.device()));
            assert_eq!((entry.state.as_str(), entry.link.is_some()), ("revoked", true));
        }
    }
    server.stop().await;
}
