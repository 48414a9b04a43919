//! Further MLS keys: devices whose own key is of another curve than their conversations. `account.registerDevice`,
//! `mls.publishKeyPackage`.

use std::sync::Arc;

use rookery::identity::Curve;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::Input;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::lexicon::{Method, Nothing};
use rookery::types::Bytes;

use crate::support::{Handmade, TestServer, idem, refused};

#[tokio::test]
async fn devices_with_ecdsa_keys_found_join_and_speak_with_their_mls_keys() {
    let server = TestServer::start().await;
    let mut alice = Handmade::of_curve(&server, server.account(), Curve::P256);
    alice.register().await.unwrap();
    let (group_id, stream) = alice.found(None).await;

    // The first of its account, and one that a certificate vouches for.
    let mut bob = Handmade::of_curve(&server, server.account(), Curve::K256);
    bob.register().await.unwrap();
    let second = Handmade::of_curve(&server, Arc::clone(&bob.account), Curve::P256);
    let certificate = Some(bob.vouch_for(&second.keys()).await);
    second.register_with(&Input { certificate, ..second.registration() }).await.unwrap();
    for device in [&bob, &second] {
        device.publish(device.mls.key_package(false).unwrap()).await.unwrap();
    }
    let claimed = alice.claim(&stream, bob.did()).await;
    assert_eq!(claimed.len(), 2);
    let bundle = alice.change(&group_id, &stream, &claimed, &[]);
    assert_eq!(alice.procedure::<AddMembers>(&bundle).await.unwrap().epoch, 1);
    alice.mls.confirm(&group_id).unwrap();
    assert_eq!(bob.mls.join(bundle.welcome.as_slice()).unwrap(), group_id);

    let ciphertext = Bytes(bob.mls.encrypt(&group_id, b"hello").unwrap());
    let message = send_message::Input { stream, idem: idem(), ciphertext };
    bob.procedure::<SendMessage>(&message).await.unwrap();
    assert!(alice.mls.receive(&group_id, message.ciphertext.as_slice()).is_ok());
    server.stop().await;
}

#[tokio::test]
async fn mls_keys_count_once_the_device_is_certified_and_are_listed() {
    let server = TestServer::start().await;
    let first = Handmade::new(&server, server.account());
    first.register().await.unwrap();
    let device = Handmade::of_curve(&server, Arc::clone(&first.account), Curve::P256);
    assert_eq!(device.register().await.unwrap().state, "uncertified");
    let package = device.mls.key_package(false).unwrap();
    refused(device.publish(package.clone()).await, 400, "SignatureKeyMismatch");
    let certificate = Some(first.vouch_for(&device.keys()).await);
    device.register_with(&Input { certificate, mls_keys: None, ..device.registration() }).await.unwrap();
    device.publish(package).await.unwrap();

    let token = || Some(first.service_token(ListDevices::NSID));
    let listed = first.service.query::<ListDevices>(&Nothing {}, token).await.unwrap().devices;
    assert_eq!(listed[0].mls_keys.as_deref(), Some(device.keys().mls_keys()));
    assert_eq!((listed[0].alg.as_str(), listed[1].mls_keys.as_ref()), ("ES256", None));
    server.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_one_device_for_ever() {
    let server = TestServer::start().await;
    let alice = Handmade::of_curve(&server, server.account(), Curve::P256);
    alice.register().await.unwrap();
    let mallory = Handmade::of_curve(&server, server.account(), Curve::P256);
    let of = |key: Vec<u8>| Input { mls_keys: Some(vec![Bytes(key)]), ..mallory.registration() };
    let alices = alice.mls.public_key().to_vec();
    refused(mallory.register_with(&of(alices.clone())).await, 409, "DeviceKeyInUse");
    // Nor as a device's own key.
    let thief = alice.under(server.account());
    assert_eq!(thief.registration().public_key.0, alices);
    refused(thief.register().await, 409, "DeviceKeyInUse");

    for (what, keys) in [
        ("nine", (0..9).map(|_| Bytes(vec![1; 57])).collect()),
        ("a length of no scheme", vec![Bytes(vec![1; 40])]),
        ("the same twice", vec![Bytes(mallory.mls.public_key().to_vec()); 2]),
        ("its own", vec![mallory.registration().public_key]),
        ("of small order", vec![Bytes(vec![0; 32])]),
    ] {
        println!("{what}");
        let input = Input { mls_keys: Some(keys), ..mallory.registration() };
        refused(mallory.register_with(&input).await, 400, "InvalidRequest");
    }
    assert_eq!(mallory.register().await.unwrap().state, "certified");
    server.stop().await;
}
