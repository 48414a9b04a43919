use std::sync::Arc;

use rookery::lexicon::mls::create_convo::{CreateConvo, Input, Output, Policy};
use rookery::lexicon::mls::get_convo::{self, GetConvo};
use rookery::types::Bytes;
use rookery_client::CallError;

use crate::support::{Handmade, TestServer, at_once, bytes, idem, refused};

async fn founder(server: &TestServer) -> Handmade {
    let founder = Handmade::new(server, server.account());
    founder.register().await.unwrap();
    founder
}

async fn create(founder: &Handmade, input: &Input) -> Result<Output, CallError> {
    founder.procedure::<CreateConvo>(input).await
}

#[tokio::test]
async fn the_founder_is_the_only_member_and_admin_at_epoch_0() {
    let server = TestServer::start().await;
    let mut alice = founder(&server).await;
    let (group_id, mut input) = alice.founding(Some(3));
    input.metadata = Some(Bytes(b"sealed metadata".to_vec()));
    let answer = create(&alice, &input).await.unwrap();

    let params = get_convo::Params { stream: answer.stream.clone() };
    let token = || Some(alice.token("blue.catbird.mls.getConvo"));
    let convo = alice.service.query::<GetConvo>(&params, token).await.unwrap().convo;
    assert_eq!((convo.stream, convo.group_id.0, convo.cipher_suite, convo.epoch), (answer.stream, group_id, 1, 0));
    assert_eq!((convo.head.seq, &convo.head.hash), (answer.seq, &answer.hash));
    assert_eq!((convo.role.as_str(), convo.metadata), ("admin", input.metadata));
    let [member] = convo.members.as_slice() else { panic!("one member") };
    assert_eq!((&member.account, member.role.as_str(), member.from_seq), (alice.did(), "admin", 1));
    assert_eq!(member.devices[0].device, alice.signer.device.as_str());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_founding_is_one_conversation_one_by_one_and_at_once() {
    let server = TestServer::start().await;
    let mut alice = founder(&server).await;
    let (_, input) = alice.founding(None);
    let alice = Arc::new(alice);
    let calls = (0..12).map(|_| {
        let (alice, input) = (Arc::clone(&alice), input.clone());
        async move { create(&alice, &input).await.unwrap() }
    });
    let mut answers = at_once(calls).await;
    answers.push(create(&alice, &input).await.unwrap());
    assert!(answers.iter().all(|answer| *answer == answers[0]));

    let other = Input { policy: Some(Policy { max_devices: Some(1) }), ..input.clone() };
    refused(create(&alice, &other).await, 409, "IdempotencyConflict");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_id_founds_one_conversation_whoever_asks() {
    let server = TestServer::start().await;
    let mut alice = founder(&server).await;
    let (_, input) = alice.founding(None);
    let alice = Arc::new(alice);
    let calls = (0..8).map(|_| {
        let (alice, input) = (Arc::clone(&alice), Input { idem: idem(), ..input.clone() });
        async move { create(&alice, &input).await }
    });
    let answers = at_once(calls).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for answer in answers.into_iter().filter(Result::is_err) {
        refused(answer, 409, "GroupIdInUse");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_the_callers_own_group_at_its_beginning_founds_a_conversation() {
    let server = TestServer::start().await;
    let (mut alice, mut bob) = (founder(&server).await, founder(&server).await);
    let (group_id, good) = alice.founding(None);
    let group_info = good.group_info.0.clone();
    let staged = alice.mls.stage_change(&group_id, &[], &[]).unwrap();
    let mut other_suite = group_info.clone();
    other_suite[7] = 2;
    for (what, group_info, error) in [
        ("nothing", vec![], "MalformedMessage"),
        ("a byte too many", bytes::longer(&group_info), "MalformedMessage"),
        ("a commit", staged.commit, "MalformedMessage"),
        ("a signature that does not hold", bytes::flipped(&group_info), "InvalidGroupInfo"),
        ("of epoch 1", staged.group_info, "InvalidGroupInfo"),
        ("a suite that is not served", other_suite, "UnsupportedCipherSuite"),
        ("somebody else's", bob.founding(None).1.group_info.0, "MembershipMismatch"),
    ] {
        println!("{what}");
        let input = Input { idem: idem(), group_info: Bytes(group_info), ..good.clone() };
        refused(create(&alice, &input).await, 400, error);
    }
    assert!(create(&alice, &good).await.is_ok(), "none of them took the group id");
    server.stop().await;
}

#[tokio::test]
async fn an_uncertified_device_founds_nothing() {
    let server = TestServer::start().await;
    let first = founder(&server).await;
    let mut second = Handmade::new(&server, Arc::clone(&first.account));
    second.register().await.unwrap();
    let (_, input) = second.founding(None);
    refused(create(&second, &input).await, 403, "DeviceUncertified");
    server.stop().await;
}

#[tokio::test]
async fn policies_that_are_not_offered_or_not_possible_are_refused() {
    let server = TestServer::start().await;
    let mut alice = founder(&server).await;
    let (_, good) = alice.founding(None);
    let validated = Input { handshake_policy: "validated".to_owned(), ..good.clone() };
    refused(create(&alice, &validated).await, 501, "NotConfigured");
    for wrong in [
        Input { handshake_policy: "other".to_owned(), ..good.clone() },
        Input { policy: Some(Policy { max_devices: Some(0) }), ..good.clone() },
        Input { policy: Some(Policy { max_devices: Some(51) }), ..good.clone() },
        Input { metadata: Some(Bytes(vec![0; (16 << 10) + 1])), ..good.clone() },
        Input { idem: "short".to_owned(), ..good.clone() },
        Input { idem: "sixteen characters, with blanks".to_owned(), ..good.clone() },
    ] {
        refused(create(&alice, &wrong).await, 400, "InvalidRequest");
    }
    server.stop().await;
}
