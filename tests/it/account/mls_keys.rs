//! Further MLS keys: devices whose own key is of another curve than their conversations. `account.registerDevice`,
//! `mls.publishKeyPackage`.

use std::sync::Arc;

use rookery::identity::{Curve, MlsKey, SigningKey};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::Input;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::lexicon::{Method, Nothing};
use rookery::types::Bytes;

use crate::support::{Handmade, TestServer, idem, listed, refused};

/// A key that no account here has registered.
fn unknown_key() -> Vec<u8> {
    SigningKey::generate(Curve::Ed25519).public().raw()
}

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
    let shown = first.service.query::<ListDevices>(&Nothing {}, token).await.unwrap().devices;
    let expected: Vec<Bytes> = device.keys().mls_keys().iter().map(|one| one.key.clone()).collect();
    assert_eq!(shown[0].mls_keys.as_ref(), Some(&expected));
    assert_eq!((shown[0].alg.as_str(), shown[1].mls_keys.as_ref()), ("ES256", None));
    server.stop().await;
}

#[tokio::test]
async fn a_key_belongs_to_the_one_device_that_proves_it() {
    let server = TestServer::start().await;
    let alice = Handmade::of_curve(&server, server.account(), Curve::P256);
    alice.register().await.unwrap();
    let mallory = Handmade::of_curve(&server, server.account(), Curve::P256);
    let of = |keys: Vec<MlsKey>| Input { mls_keys: Some(keys.iter().map(listed).collect()), ..mallory.registration() };
    let own = mallory.mls_key();
    let raw = |key: Vec<u8>| MlsKey { key: Bytes(key), ..own.clone() };
    // Keys that alice has not registered yet, and that she has: mallory cannot sign with either.
    for (what, keys) in [
        ("a key of somebody else", vec![raw(unknown_key())]),
        ("alice's, with her proof", vec![alice.mls_key()]),
        ("alice's, with another proof", vec![raw(alice.mls_key().key.0)]),
    ] {
        println!("{what}");
        refused(mallory.register_with(&of(keys)).await, 400, "DeviceProofInvalid");
    }
    // Nor as a device's own key; and a caller with the private key finds the key in use.
    let thief = alice.under(server.account());
    assert_eq!(thief.registration().public_key, alice.mls_key().key);
    refused(thief.register().await, 409, "DeviceKeyInUse");

    for (what, keys) in [
        ("nine", vec![own.clone(); 9]),
        ("a length of no scheme", vec![raw(vec![1; 57])]),
        ("the same twice", vec![own.clone(); 2]),
        ("its own", vec![raw(mallory.registration().public_key.0)]),
        ("of small order", vec![raw(vec![0; 32])]),
    ] {
        println!("{what}");
        refused(mallory.register_with(&of(keys)).await, 400, "InvalidRequest");
    }
    assert_eq!(mallory.register().await.unwrap().state, "certified");
    server.stop().await;
}
