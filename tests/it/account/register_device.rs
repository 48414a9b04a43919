use std::sync::Arc;

use rookery::identity::{Curve, DeviceChain, DeviceKeys, DeviceLink, DeviceSigner, MlsKey, SigningKey, body_hash};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::{Input, Output, RegisterDevice};
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::get_convos::{self, GetConvos};
use rookery::lexicon::mls::publish_key_packages::PublishKeyPackages;
use rookery::lexicon::{Method, Nothing};
use rookery::log::body::{Body, DeviceChainResetBody};
use rookery::types::{Bytes, Clock, DeviceId};
use rookery_testkit::Person;
use serde_json::json;

use super::device_entries;
use crate::support::{AccountToken, Handmade, TestServer, at_once, certify, conversation, listed, refused};

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
        let token = |nsid, body: Option<&[u8]>| {
            let hash = body.map(body_hash);
            signer.token(TestServer::did().as_str(), nsid, like.service.clock().now(), hash.as_deref())
        };
        let input = Input { public_key: Bytes(signer.key().public().raw()), ..like.registration() };
        let proof = |body: &[u8]| token(RegisterDevice::NSID, Some(body));
        let answer = like.register_proven(&input, proof).await.unwrap();
        assert_eq!(answer.device, signer.device.as_str());
        let listed =
            like.service.query::<ListDevices>(&Nothing {}, || Some(token(ListDevices::NSID, None))).await.unwrap();
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

/// What is wrong, and the device token that a body is sent with.
type Attempt<'a> = (&'a str, &'a dyn Fn(&[u8]) -> String);

#[tokio::test]
async fn a_registration_without_a_proof_of_its_key_is_device_proof_invalid() {
    let server = TestServer::start().await;
    let device = Handmade::new(&server, server.account());
    let (other, elsewhere) = (Handmade::new(&server, server.account()), Handmade::new(&server, server.account()));
    let good = device.registration();
    let (aud, now) = (TestServer::did(), device.service.clock().now());
    let long_ago = rookery::types::UnixMillis(now.0 - 3_600_000);
    let under = device.under(elsewhere.account.clone());
    let nsid = RegisterDevice::NSID;
    let signed = |aud: &str, at, body: &[u8]| device.signer.token(aud, nsid, at, Some(&body_hash(body)));
    let proofs: [Attempt; 9] = [
        ("no token", &|_| "nonsense".to_owned()),
        ("a service token", &|_| device.service_token(nsid)),
        ("another device's token", &|body| other.proof(nsid, body)),
        ("of another account, by this key", &|body| under.proof(nsid, body)),
        ("for another method", &|body| device.proof(PublishKeyPackages::NSID, body)),
        ("for another server", &|body| signed("did:web:x.test", now, body)),
        ("an old one", &|body| signed(aud.as_str(), long_ago, body)),
        ("of no body", &|_| device.token(nsid)),
        ("of another body", &|_| device.proof(nsid, b"{}")),
    ];
    for (what, proof) in proofs {
        println!("{what}");
        refused(device.register_proven(&good, proof).await, 400, "DeviceProofInvalid");
    }
    let key = |key: Vec<u8>| Input { public_key: Bytes(key), ..good.clone() };
    for (what, input) in [
        ("another key", key(other.registration().public_key.0)),
        ("a key of 33 bytes", key(vec![2; 33])),
        ("a key of small order", key(vec![0; 32])),
    ] {
        println!("{what}");
        refused(device.register_with(&input).await, 400, "DeviceProofInvalid");
    }
    let alone = || Some(device.service_token(nsid));
    refused(device.service.procedure::<RegisterDevice>(&good, alone).await, 401, "DeviceProofRequired");
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
async fn a_certificate_by_a_device_of_any_curve_certifies_one_of_any_curve_at_once() {
    let server = TestServer::start().await;
    let account = server.account();
    let mut devices = vec![Handmade::of_curve(&server, Arc::clone(&account), Curve::Ed25519)];
    devices[0].register().await.unwrap();
    for curve in [Curve::P256, Curve::K256, Curve::Ed25519, Curve::P256] {
        let device = Handmade::of_curve(&server, Arc::clone(&account), curve);
        let certificate = Some(devices.last().unwrap().vouch_for(&device.keys()).await);
        let answer = device.register_with(&Input { certificate, ..device.registration() }).await.unwrap();
        assert_eq!((answer.device.as_str(), answer.state.as_str()), (device.signer.device.as_str(), "certified"));
        devices.push(device);
    }
    server.settled().await;
    let events = devices[0].events().await;
    assert!(events.iter().all(|event| event.kind != "#deviceChainReset"), "nobody is told of a first chain");
    let entries = device_entries(&events);
    let links: Vec<DeviceLink> =
        entries.into_iter().map(|entry| DeviceLink::decode(entry.link.unwrap().as_slice()).unwrap()).collect();
    let told = DeviceChain::read(devices[0].did(), &links).unwrap();
    let shown = devices[4].chain().await;
    assert_eq!(told.head(), shown.head(), "the stream tells what the list shows");
    let mut expected: Vec<&DeviceId> = devices.iter().map(|device| &device.signer.device).collect();
    expected.sort();
    assert_eq!(shown.devices().collect::<Vec<_>>(), expected);
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_waited_uncertified_is_certified_by_registering_again() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    certify(&alice, &second).await;
    assert_eq!(second.register().await.unwrap().state, "certified", "and stays so without the certificate");
    let third = server.second_device(&alice).await;
    certify(&second, &third).await;
    assert_eq!(third.device_chain().await.unwrap().head().seq, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_certified_registration_gets_the_same_answer_one_by_one_and_at_once() {
    let server = TestServer::start().await;
    let alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let device = Arc::new(Handmade::new(&server, Arc::clone(&alice.account)));
    let certificate = Some(alice.vouch_for(&device.keys()).await);
    let input = Input { certificate, ..device.registration() };
    let calls = (0..12).map(|_| {
        let (device, input) = (Arc::clone(&device), input.clone());
        async move { device.register_with(&input).await.unwrap() }
    });
    let mut answers: Vec<Output> = at_once(calls).await;
    let third = Handmade::new(&server, Arc::clone(&alice.account));
    let certificate = Some(alice.vouch_for(&third.keys()).await);
    third.register_with(&Input { certificate, ..third.registration() }).await.unwrap();
    answers.push(device.register_with(&input).await.unwrap());

    assert_eq!(answers[0].state, "certified");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    server.settled().await;
    assert_eq!(device_entries(&alice.events().await).len(), 3, "one entry for each device, however often");
    server.stop().await;
}

#[tokio::test]
async fn a_certificate_counts_for_its_own_key_by_a_certified_device_of_the_account() {
    let server = TestServer::start().await;
    let account = server.account();
    let make = || Handmade::new(&server, Arc::clone(&account));
    let (alice, lost, waiting, device) = (make(), make(), make(), make());
    alice.register().await.unwrap();
    let certificate = Some(alice.vouch_for(&lost.keys()).await);
    lost.register_with(&Input { certificate, ..lost.registration() }).await.unwrap();
    waiting.register().await.unwrap();
    // Without a link: in the chain it still stands.
    let input = revoke_device::Input { device: lost.signer.device.to_string(), revocation: None };
    alice.procedure::<RevokeDevice>(&input).await.unwrap();

    let stranger = Handmade::new(&server, server.account());
    stranger.register().await.unwrap();
    let (chain, theirs) = (alice.chain().await, stranger.chain().await);
    let signed = |by: &Handmade| chain.certify(by.signer.key(), &device.keys()).unwrap();
    let bytes = |link: DeviceLink| Bytes(link.encode().unwrap());
    let with = |key: MlsKey| DeviceKeys::new(device.signer.key().public(), vec![key]).unwrap();
    let of_device = |key: &SigningKey| MlsKey::prove(key, device.did(), &device.signer.device).unwrap();
    let (own, more) = (with(of_device(alice.signer.key())), with(of_device(stranger.signer.key())));
    let stolen = with(stranger.mls_key());
    for (what, certificate) in [
        ("nonsense", Bytes(vec![1; 100])),
        ("another key", bytes(chain.certify(alice.signer.key(), &make().keys()).unwrap())),
        ("by an uncertified device", bytes(signed(&waiting))),
        ("by itself", bytes(signed(&device))),
        ("by a revoked device", bytes(signed(&lost))),
        ("of another account", bytes(theirs.certify(stranger.signer.key(), &device.keys()).unwrap())),
        ("a revocation", bytes(chain.revoke(alice.signer.key(), &alice.signer.device).unwrap())),
        ("with a key that is the chain's", bytes(chain.certify(alice.signer.key(), &own).unwrap())),
        ("with a key that did not sign", bytes(chain.certify(alice.signer.key(), &stolen).unwrap())),
        ("unsigned", bytes(DeviceLink { sig: None, ..signed(&alice) })),
        ("with another's signature", bytes(DeviceLink { sig: signed(&device).sig, ..signed(&alice) })),
    ] {
        println!("{what}");
        let input = Input { certificate: Some(certificate), ..device.registration() };
        refused(device.register_with(&input).await, 400, "DeviceLinkInvalid");
    }
    let good = Input { certificate: Some(bytes(signed(&alice))), ..device.registration() };
    let other_keys = Input { mls_keys: Some(more.mls_keys().iter().map(listed).collect()), ..good.clone() };
    refused(device.register_with(&other_keys).await, 400, "DeviceLinkInvalid");
    let of_another =
        Input { certificate: Some(bytes(chain.certify(alice.signer.key(), &more).unwrap())), ..good.clone() };
    refused(device.register_with(&of_another).await, 409, "DeviceKeyInUse");
    let newcomer = Handmade::new(&server, server.account());
    let input = Input { certificate: good.certificate.clone(), ..newcomer.registration() };
    refused(newcomer.register_with(&input).await, 400, "DeviceLinkInvalid");
    assert_eq!(device.register_with(&good).await.unwrap().state, "certified", "none of them stood in the way");
    assert_eq!(alice.chain().await.head().seq, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_certificates_for_one_place_in_the_chain_one_wins_and_the_others_are_stale() {
    let server = TestServer::start().await;
    let account = server.account();
    let alice = Handmade::new(&server, Arc::clone(&account));
    alice.register().await.unwrap();
    let chain = alice.chain().await;
    let devices: Vec<_> = (0..6).map(|_| Arc::new(Handmade::new(&server, Arc::clone(&account)))).collect();
    let calls = devices.iter().map(|device| {
        let link = chain.certify(alice.signer.key(), &device.keys()).unwrap();
        let certificate = Some(Bytes(link.encode().unwrap()));
        let (device, input) = (Arc::clone(device), Input { certificate, ..device.registration() });
        async move { device.register_with(&input).await }
    });
    let answers = at_once(calls.collect::<Vec<_>>()).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for (device, answer) in devices.iter().zip(answers) {
        let Err(stale) = answer else { continue };
        let stale = refused::<()>(Err(stale), 409, "StaleDeviceChain");
        assert_eq!((&stale.body["generation"], &stale.body["seq"]), (&json!(1), &json!(2)));
        let certificate = Some(alice.vouch_for(&device.keys()).await);
        device.register_with(&Input { certificate, ..device.registration() }).await.unwrap();
    }
    assert_eq!(alice.chain().await.head().seq, 7);
    server.stop().await;
}

#[tokio::test]
async fn a_chain_of_1000_links_certifies_nobody_more_and_still_revokes() {
    let server = TestServer::start().await;
    let alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let mut chain = alice.chain().await;
    let mut links = Vec::new();
    while chain.head().seq < 1000 {
        // Somebody comes, and goes.
        let visitor = DeviceKeys::of(SigningKey::generate(Curve::Ed25519).public());
        let certified = chain.certify(alice.signer.key(), &visitor).unwrap();
        links.push((chain.extend(&certified).unwrap().head, certified, visitor.clone()));
        if chain.head().seq < 1000 {
            let revoked = chain.revoke(alice.signer.key(), &visitor.device()).unwrap();
            links.push((chain.extend(&revoked).unwrap().head, revoked, visitor));
        }
    }
    let mut database = server.database.connect().await;
    for (head, link, keys) in links {
        let device = "with visitor as (
                insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
                select account_id, $1, $2, alg, kind, 'revoked', created_at from device where public_id = $6
                on conflict (public_id) where state <> 'foreign' do update set state = 'revoked' returning id, account_id, created_at)
            insert into device_link (account_id, generation, seq, device_id, revokes, bytes, hash, created_at)
            select account_id, 1, $3, id, $3 % 2 = 1, $4, $5, created_at from visitor";
        let row = sqlx::query(device).bind(keys.device().to_string()).bind(keys.key().raw());
        let row = row.bind(i32::try_from(head.seq).unwrap()).bind(link.encode().unwrap()).bind(head.hash.to_vec());
        row.bind(alice.signer.device.as_str()).execute(&mut database).await.unwrap();
    }
    let device = Handmade::new(&server, Arc::clone(&alice.account));
    let link = chain.certify(alice.signer.key(), &device.keys()).unwrap();
    let certificate = Some(Bytes(link.encode().unwrap()));
    refused(device.register_with(&Input { certificate, ..device.registration() }).await, 409, "TooManyDevices");
    let end = chain.revoke(alice.signer.key(), &alice.signer.device).unwrap();
    let revocation = Some(Bytes(end.encode().unwrap()));
    let input = revoke_device::Input { device: alice.signer.device.to_string(), revocation };
    alice.procedure::<RevokeDevice>(&input).await.unwrap();
    assert_eq!(device.register().await.unwrap().state, "certified", "a new chain has room");
    server.stop().await;
}

#[tokio::test]
async fn an_account_without_a_certified_device_begins_anew_and_whoever_shares_a_stream_is_told() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 3).await;
    let (alice, bob, gone) = (&people[0], &people[1], &people[2]);
    let stream = bob.create_convo().await.unwrap();
    bob.add_members(&stream, &[gone.did().clone()]).await.unwrap();
    alice.remove_members(&people_stream(alice).await, &[gone.did().clone()]).await.unwrap();
    let waiting = server.second_device(alice).await;
    let before = alice.device_chain().await.unwrap();
    revoke_as_account(alice, alice.device()).await;

    // It was there before, uncertified: registered again, it is the first of the new chain.
    assert_eq!(waiting.register().await.unwrap().state, "certified");
    let chain = waiting.device_chain().await.unwrap();
    assert_eq!((chain.head().generation, chain.head().seq), (2, 1));
    assert_eq!(chain.devices().collect::<Vec<_>>(), [waiting.device()]);
    let third = server.second_device(&waiting).await;
    certify(&waiting, &third).await;
    refused(alice.register().await, 403, "DeviceRevoked");
    assert!(!chain.went_through(&before.head()));

    server.settled().await;
    for (who, told) in [(&waiting, 1), (bob, 1), (gone, 0)] {
        let resets = resets(who).await;
        assert_eq!(resets.len(), told, "{}", who.name());
        for reset in resets {
            assert_eq!((&reset.account, reset.generation, &reset.device), (alice.did(), 2, waiting.device()));
            let link = DeviceLink::decode(reset.link.as_slice()).unwrap();
            assert_eq!(DeviceChain::read(alice.did(), &[link]).unwrap().head(), chain.head());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn an_account_begins_three_new_chains_a_day_and_no_more() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let account = server.account();
    let device = || Handmade::new(&server, Arc::clone(&account));
    let mut current = device();
    current.register().await.unwrap();
    for _ in 0..3 {
        end(&current).await;
        current = device();
        assert_eq!(current.register().await.unwrap().state, "certified");
        clock.advance_ms(60 * 60 * 1000);
    }
    end(&current).await;
    let next = device().at(&server.service().url());
    let no = refused(next.register().await, 429, "TooManyChainResets");
    assert_eq!(no.body["retryAfter"], json!(21 * 60 * 60));
    assert_eq!(no.retry_after, Some(std::time::Duration::from_hours(21)));
    clock.advance_ms(21 * 60 * 60 * 1000);
    assert_eq!(next.register().await.unwrap().state, "certified", "the first of the three is a day old");
    server.stop().await;
}

/// The account revokes the device, by its session alone.
async fn end(device: &Handmade) {
    let input = revoke_device::Input { device: device.signer.device.to_string(), revocation: None };
    let token = || Some(device.service_token(RevokeDevice::NSID));
    device.service.procedure::<RevokeDevice>(&input, token).await.unwrap();
}

#[tokio::test]
async fn resets_that_wait_for_delivery_become_one_notice() {
    let server = TestServer::start().await;
    let (_, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    server.settled().await;
    let mut database = server.database.connect().await;
    let later = "alter table outbox alter column due_at set default clock_timestamp() + interval '1 hour'";
    sqlx::query(later).execute(&mut database).await.unwrap();
    revoke_as_account(alice, alice.device()).await;
    let second = server.next_device(alice).await;
    revoke_as_account(alice, second.device()).await;
    let third = server.next_device(alice).await;
    sqlx::query("update outbox set due_at = clock_timestamp()").execute(&mut database).await.unwrap();
    server.settled().await;
    let told = resets(bob).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].generation, &told[0].device), (3, third.device()));
    server.stop().await;
}

#[tokio::test]
async fn an_unaccepted_conversation_gets_no_notice_of_a_reset() {
    let server = TestServer::start_with(&[("INVITATIONS", "everyone")]).await;
    let (stranger, alice) = (server.person("stranger").await, server.newcomer("alice", 1).await);
    let stream = stranger.create_convo().await.unwrap();
    stranger.add_members(&stream, &[alice.did().clone()]).await.unwrap();
    let held = "update seat set held = true where account_id = (select id from account where did = $1)
                and stream_id = (select id from stream where public_id = $2)";
    let held = sqlx::query(held).bind(alice.did().as_str()).bind(&stream);
    held.execute(&mut server.database.connect().await).await.unwrap();
    revoke_as_account(&alice, alice.device()).await;
    server.next_device(&alice).await;
    server.settled().await;
    assert_eq!(resets(&stranger).await, [], "an unaccepted seat does not count");
    server.stop().await;
}

#[tokio::test]
async fn revoked_devices_count_and_unreferenced_ones_are_deleted() {
    let server = TestServer::start().await;
    let account = server.account();
    let device = || Handmade::new(&server, Arc::clone(&account));
    let first = device();
    first.register().await.unwrap();
    let fill = "insert into device (account_id, public_id, public_key, alg, kind, state, created_at, revoked_at)
                select account_id, 'gone ' || n, public_key, alg, kind, 'revoked', created_at, created_at
                from device, generate_series(1, 999) n where public_id = $1";
    let mut database = server.database.connect().await;
    sqlx::query(fill).bind(first.signer.device.as_str()).execute(&mut database).await.unwrap();
    let rows = async |database: &mut sqlx::PgConnection| {
        sqlx::query_scalar::<_, i64>("select count(*) from device").fetch_one(database).await.unwrap()
    };
    assert_eq!(rows(&mut database).await, 1000);
    assert_eq!(
        device().register().await.unwrap().state,
        "uncertified",
        "a device that was never in a chain makes room"
    );
    assert_eq!(rows(&mut database).await, 2);

    // Devices of the newest chain stay, because clients verify its links.
    sqlx::query(fill).bind(first.signer.device.as_str()).execute(&mut database).await.unwrap();
    let linked = "insert into device_link (account_id, generation, seq, device_id, revokes, bytes, hash, created_at)
                  select account_id, 1, 1 + row_number() over (), id, false, '', sha256(public_id::bytea), now()
                  from device where public_id like 'gone %'";
    sqlx::query(linked).execute(&mut database).await.unwrap();
    refused(device().register().await, 409, "TooManyDevices");
    server.stop().await;
}

/// The one conversation that it founded.
async fn people_stream(person: &Person) -> String {
    let params = get_convos::Params { limit: 1, cursor: None };
    person.query::<GetConvos>(&params).await.unwrap().convos.remove(0).stream
}

async fn revoke_as_account(person: &Person, device: &DeviceId) {
    let input = revoke_device::Input { device: device.to_string(), revocation: None };
    let token = || Some(person.service_token(RevokeDevice::NSID));
    person.service().procedure::<RevokeDevice>(&input, token).await.unwrap();
}

async fn resets(person: &Person) -> Vec<DeviceChainResetBody> {
    let page = person.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
    let resets = page.events.iter().filter(|event| event.kind == "#deviceChainReset");
    resets.map(|event| DeviceChainResetBody::decode(event.body.as_ref().unwrap().as_slice()).unwrap()).collect()
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
