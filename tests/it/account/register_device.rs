use std::sync::Arc;

use rookery::cli::demo::person::CallError;
use rookery::identity::{Curve, DeviceSigner, SigningKey};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::{Input, Output, RegisterDevice};
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::publish_key_packages::PublishKeyPackages;
use rookery::lexicon::{Method, Nothing};
use rookery::types::Bytes;
use serde_json::json;

use crate::support::{Handmade, TestServer, at_once, refused};

/// Kinds of the entries in the account's own stream.
async fn kinds(device: &Handmade) -> Vec<String> {
    let params = list_events::Params { cursor: None, limit: 100 };
    let token = || Some(device.token(ListEvents::NSID));
    let page = device.service.query::<ListEvents>(&params, token).await.unwrap();
    page.events.into_iter().map(|event| event.kind).collect()
}

#[tokio::test]
async fn the_first_device_of_an_account_is_certified_and_the_second_is_not() {
    let server = TestServer::start().await;
    let account = server.account();
    let (first, second) = (Handmade::new(&server, Arc::clone(&account)), Handmade::new(&server, account));

    let answer = first.register().await.unwrap();
    assert_eq!((answer.device.as_str(), answer.state.as_str()), (first.signer.device.as_str(), "certified"));
    let later = second.register().await.unwrap();
    assert_eq!((later.device.as_str(), later.state.as_str()), (second.signer.device.as_str(), "uncertified"));
    assert_eq!(later.stream, answer.stream, "one stream for the account");
    server.settled().await;
    assert_eq!(kinds(&first).await, ["#opened", "#membership", "#device", "#device"]);
    server.stop().await;
}

#[tokio::test]
async fn a_device_may_have_a_key_of_any_curve() {
    let server = TestServer::start().await;
    for curve in [Curve::P256, Curve::K256, Curve::Ed25519] {
        let like = Handmade::new(&server, server.account());
        let signer = DeviceSigner::new(like.did().clone(), SigningKey::generate(curve));
        let token = |nsid| signer.token(TestServer::did().as_str(), nsid, like.service.clock().now(), None);
        let input = Input {
            public_key: Bytes(signer.key().public().raw()),
            device_token: token(RegisterDevice::NSID),
            ..like.registration()
        };
        let answer = like.register_with(&input).await.unwrap();
        assert_eq!(answer.device, signer.device.as_str());
        let listed = like.service.query::<ListDevices>(&Nothing {}, || Some(token(ListDevices::NSID))).await.unwrap();
        assert_eq!(listed.devices[0].public_key, input.public_key, "{curve:?}: its own tokens are good");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_registration_gets_the_same_answer_one_by_one_and_at_once() {
    let server = TestServer::start().await;
    let device = Arc::new(Handmade::new(&server, server.account()));
    let input = device.registration();
    let calls = (0..12).map(|_| {
        let (device, input) = (Arc::clone(&device), input.clone());
        async move { device.register_with(&input).await.unwrap() }
    });
    let mut answers: Vec<Output> = at_once(calls).await;
    answers.push(device.register_with(&input).await.unwrap());
    answers.push(device.register().await.unwrap());

    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    server.settled().await;
    assert_eq!(kinds(&device).await, ["#opened", "#membership", "#device"], "one device, however often");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_first_devices_at_once_exactly_one_is_certified() {
    let server = TestServer::start().await;
    let account = server.account();
    let devices: Vec<_> = (0..8).map(|_| Arc::new(Handmade::new(&server, Arc::clone(&account)))).collect();
    let calls = devices.iter().cloned().map(|device| async move { device.register().await.unwrap() });
    let answers = at_once(calls).await;

    assert_eq!(answers.iter().filter(|answer| answer.state == "certified").count(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.stream == answers[0].stream));
    server.settled().await;
    assert_eq!(kinds(&devices[0]).await.len(), 2 + devices.len());
    server.stop().await;
}

#[tokio::test]
async fn a_registration_without_a_proof_of_its_key_is_device_proof_invalid() {
    let server = TestServer::start().await;
    let device = Handmade::new(&server, server.account());
    let (other, elsewhere) = (Handmade::new(&server, server.account()), Handmade::new(&server, server.account()));
    let good = device.registration();
    let long_ago = rookery::types::UnixMillis(device.service.clock().now().0 - 3_600_000);
    let aud = TestServer::did();
    let token = |token: String| Input { device_token: token, ..good.clone() };
    let key = |key: Vec<u8>| Input { public_key: Bytes(key), ..good.clone() };
    for (what, input) in [
        ("no token", token("nonsense".to_owned())),
        ("a service token", token(device.service_token(RegisterDevice::NSID))),
        ("another device's token", token(other.token(RegisterDevice::NSID))),
        ("of another account, by this key", token(device.under(elsewhere.account.clone()).token(RegisterDevice::NSID))),
        ("for another method", token(device.token(PublishKeyPackages::NSID))),
        ("for another server", token(device.signer.token("did:web:x.test", RegisterDevice::NSID, long_ago, None))),
        ("an old one", token(device.signer.token(aud.as_str(), RegisterDevice::NSID, long_ago, None))),
        ("another key", key(other.registration().public_key.0)),
        ("a key of 33 bytes", key(vec![2; 33])),
        ("a key of small order", key(vec![0; 32])),
    ] {
        println!("{what}");
        refused(device.register_with(&input).await, 400, "DeviceProofInvalid");
    }
    assert!(device.register_with(&good).await.is_ok(), "none of them stood in the way");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_another_account_registered_is_in_use() {
    let server = TestServer::start().await;
    let first = Handmade::new(&server, server.account());
    first.register().await.unwrap();
    let second = first.under(server.account());
    refused(second.register().await, 409, "DeviceKeyInUse");
    let devices = second.service.query::<ListDevices>(&Nothing {}, || Some(second.service_token(ListDevices::NSID)));
    assert_eq!(devices.await.unwrap().devices, [], "nothing was founded for the second");

    // At the same moment.
    for _ in 0..6 {
        let device = Handmade::new(&server, server.account());
        let rivals: Vec<_> = (0..4).map(|_| device.under(server.account())).collect();
        let answers = at_once(rivals.into_iter().map(|rival| async move { rival.register().await })).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, 409, "DeviceKeyInUse");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let server = TestServer::start().await;
    let device = Handmade::new(&server, server.account());
    let registered = device.register().await.unwrap();
    device
        .procedure::<RevokeDevice>(&revoke_device::Input { device: registered.device, revocation: None })
        .await
        .unwrap();
    refused(device.register().await, 403, "DeviceRevoked");
    server.stop().await;
}

#[tokio::test]
async fn an_account_has_50_devices_at_most_and_a_revoked_one_makes_room() {
    let server = TestServer::start().await;
    let account = server.account();
    let device = || Handmade::new(&server, Arc::clone(&account));
    let (first, second, one_more) = (device(), device(), device());
    first.register().await.unwrap();
    second.register().await.unwrap();
    let others = "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
                  select account_id, 'other ' || n, public_key, alg, kind, 'uncertified', created_at
                  from device, generate_series(1, 48) n where public_id = $1";
    let others = sqlx::query(others).bind(first.signer.device.as_str());
    others.execute(&mut server.database.connect().await).await.unwrap();

    refused(one_more.register().await, 409, "TooManyDevices");
    assert_eq!(second.register().await.unwrap().state, "uncertified", "a repeat needs no room");
    let input = revoke_device::Input { device: second.signer.device.to_string(), revocation: None };
    first.procedure::<RevokeDevice>(&input).await.unwrap();
    assert_eq!(one_more.register().await.unwrap().state, "uncertified");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_offered_yet_is_said_so() {
    let server = TestServer::start().await;
    let device = Handmade::new(&server, server.account());
    let refuse = |answer: Result<Output, CallError>| refused(answer, 501, "NotConfigured");
    let certificate = Some(Bytes(vec![1]));
    refuse(device.register_with(&Input { certificate, ..device.registration() }).await);
    let mls_keys = Some(vec![Bytes(vec![1; 32])]);
    refuse(device.register_with(&Input { mls_keys, ..device.registration() }).await);
    server.stop().await;
}

#[tokio::test]
async fn a_registration_of_another_form_is_an_invalid_request() {
    let server = TestServer::start().await;
    let device = Handmade::new(&server, server.account());
    let good = serde_json::to_value(device.registration()).unwrap();
    for (field, value) in [
        ("publicKey", json!({ "$bytes": "AAAA" })),
        ("publicKey", json!("AAAA")),
        ("kind", json!("phone")),
        ("name", json!(null)),
        ("platform", json!("x".repeat(33))),
        ("deviceToken", json!("x".repeat(4097))),
    ] {
        let mut input = good.clone();
        input[field] = value;
        let token = device.service_token(RegisterDevice::NSID);
        let answer = server.raw(RegisterDevice::NSID, "").token(&token).json(&input).send().await;
        assert_eq!(answer.outcome(), (400, "InvalidRequest"), "{field}");
        assert!(answer.body["message"].as_str().unwrap().contains(field), "{}", answer.body);
    }
    server.stop().await;
}
