use openmls::prelude::Capabilities;
use rookery::lexicon::Nothing;
use rookery::lexicon::mls::get_key_package_status::GetKeyPackageStatus;
use rookery::lexicon::mls::publish_key_package::PublishKeyPackage;
use rookery::lexicon::{Method, mls::publish_key_package};
use rookery::types::Bytes;

use crate::support::{DAY_S, Handmade, Maker, TestServer, bytes, refused};

async fn device(server: &TestServer) -> Handmade {
    let device = Handmade::new(server, server.account());
    device.register().await.unwrap();
    device
}

#[tokio::test]
async fn a_key_package_enters_the_pool_and_its_reference_is_told() {
    let server = TestServer::start().await;
    let alice = device(&server).await;
    let published = alice.publish(alice.mls.key_package(false).unwrap()).await.unwrap();
    assert_eq!((published.r#ref.0.len(), published.cipher_suite, published.last_resort), (32, 1, false));
    assert!(alice.publish(alice.mls.key_package(true).unwrap()).await.unwrap().last_resort);
    assert_eq!(alice.publish(Maker::new(&alice).make()).await.unwrap().cipher_suite, 1, "one that is not wrapped, too");
    let token = || Some(alice.token(GetKeyPackageStatus::NSID));
    let pools = alice.service.query::<GetKeyPackageStatus>(&Nothing {}, token).await.unwrap().pools;
    assert_eq!((pools[0].available, pools[0].last_resort), (2, true));
    server.stop().await;
}

#[tokio::test]
async fn a_key_package_that_a_member_could_not_use_is_refused_by_its_fault() {
    let server = TestServer::start().await;
    let (alice, bob) = (device(&server).await, device(&server).await);
    let good = alice.mls.key_package(false).unwrap();
    let mut other_suite = good.clone();
    other_suite[7] = 2;
    let maker = || Maker::new(&alice);
    let (bobs, bobs_key) = (Maker::new(&bob), Maker::new(&bob).public_key);
    for (what, package, error) in [
        ("nothing", vec![], "MalformedMessage"),
        ("one and more", bytes::longer(&good), "MalformedMessage"),
        ("a signature that does not hold", bytes::flipped(&good), "InvalidKeyPackage"),
        ("a suite that is not served", other_suite, "UnsupportedCipherSuite"),
        (
            "capabilities of nothing",
            Maker { capabilities: Capabilities::empty(), ..maker() }.make(),
            "CapabilitiesIncomplete",
        ),
        ("another's", bob.mls.key_package(false).unwrap(), "CredentialMismatch"),
        ("no name", Maker { identity: vec![], ..maker() }.make(), "CredentialMismatch"),
        ("another's key", Maker { seed: bobs.seed, public_key: bobs_key, ..maker() }.make(), "SignatureKeyMismatch"),
        ("one that ends tomorrow", Maker { lives_s: DAY_S - 60, ..maker() }.make(), "KeyPackageExpired"),
    ] {
        println!("{what}");
        refused(alice.publish(package).await, 400, error);
    }
    assert!(alice.publish(good).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn the_same_key_package_and_the_same_init_key_are_taken_once() {
    let server = TestServer::start().await;
    let alice = device(&server).await;
    let package = alice.mls.key_package(false).unwrap();
    alice.publish(package.clone()).await.unwrap();
    refused(alice.publish(package.clone()).await, 409, "DuplicateKeyPackage");
    refused(alice.publish(package[4..].to_vec()).await, 409, "DuplicateKeyPackage");

    let (one, other) = (Maker::new(&alice), Maker { lives_s: 30 * DAY_S, ..Maker::new(&alice) });
    alice.publish(one.make()).await.unwrap();
    refused(alice.publish(other.make()).await, 409, "InitKeyReused");
    server.stop().await;
}

#[tokio::test]
async fn a_pool_holds_100_and_last_resorts_are_not_counted() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 100).await;
    let full = |error: &rookery_client::ClientError| error.to_string().contains("KeyPackagePoolFull");
    assert!(alice.publish(1, false).await.is_err_and(|error| full(&error)));
    alice.publish(0, true).await.unwrap();

    let handmade = device(&server).await;
    for _ in 0..100 {
        handmade.publish(handmade.mls.key_package(false).unwrap()).await.unwrap();
    }
    refused(handmade.publish(handmade.mls.key_package(false).unwrap()).await, 409, "KeyPackagePoolFull");
    server.stop().await;
}

#[tokio::test]
async fn a_key_package_of_more_than_16_kib_is_an_invalid_request() {
    let server = TestServer::start().await;
    let alice = device(&server).await;
    let input = publish_key_package::Input { key_package: Bytes(vec![0; (16 << 10) + 1]) };
    refused(alice.procedure::<PublishKeyPackage>(&input).await, 400, "InvalidRequest");
    server.stop().await;
}
