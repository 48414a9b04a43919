use std::collections::BTreeSet;
use std::sync::Arc;

use rookery::lexicon::mls::claim_key_packages::{ClaimKeyPackages, Input, Output, Package};
use rookery::types::{Clock, Did};
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{Handmade, TestServer, at_once, befriend, certify, conversation, idem, refused};

fn claim(stream: &str, targets: &[&Did]) -> Input {
    Input {
        claim_id: idem(),
        stream: stream.to_owned(),
        home: None,
        targets: targets.iter().map(|did| (*did).clone()).collect(),
        cipher_suites: vec![3, 1],
    }
}

async fn call(person: &Person, input: &Input) -> Result<Output, CallError> {
    person.procedure::<ClaimKeyPackages>(input).await
}

/// The packages of the first target.
async fn packages(person: &Person, input: &Input) -> Vec<Package> {
    call(person, input).await.unwrap().targets.remove(0).packages.unwrap_or_default()
}

#[tokio::test]
async fn one_package_of_each_certified_device_is_given_or_why_there_is_none() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 1).await);
    let (poor, nobody) = (server.newcomer("poor", 0).await, server.account());
    let (second, uncertified) = (server.second_device(&bob).await, server.second_device(&bob).await);
    certify(&bob, &second).await;
    let stream = alice.create_convo().await.unwrap();

    let input = claim(&stream, &[bob.did(), poor.did(), &nobody.did]);
    let answer = call(&alice, &input).await.unwrap();
    let accounts: Vec<&Did> = answer.targets.iter().map(|target| &target.account).collect();
    assert_eq!(accounts, [bob.did(), poor.did(), &nobody.did], "in the order asked");
    let given: BTreeSet<&str> =
        answer.targets[0].packages.as_ref().unwrap().iter().map(|package| package.device.as_str()).collect();
    assert_eq!(given, BTreeSet::from([bob.device().as_str(), second.device().as_str()]));
    assert!(!given.contains(uncertified.device().as_str()));
    assert_eq!(answer.targets[0].problem, None);
    assert_eq!(answer.targets[1].problem.as_deref(), Some("exhausted"));
    assert_eq!(answer.targets[2].problem.as_deref(), Some("notHere"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_claim_gets_the_same_packages_one_by_one_and_at_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 3).await);
    let stream = alice.create_convo().await.unwrap();
    let input = claim(&stream, &[bob.did()]);
    let calls = (0..12).map(|_| {
        let (alice, input) = (Arc::clone(&alice), input.clone());
        async move { call(&alice, &input).await.unwrap() }
    });
    let mut answers = at_once(calls).await;
    answers.push(call(&alice, &input).await.unwrap());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let next = packages(&alice, &claim(&stream, &[bob.did()])).await;
    assert_ne!(next[0].r#ref, answers[0].targets[0].packages.as_ref().unwrap()[0].r#ref);
    assert_eq!(
        packages(&alice, &claim(&stream, &[bob.did()])).await.len(),
        1,
        "one was taken by twelve, one each since"
    );
    assert_eq!(packages(&alice, &claim(&stream, &[bob.did()])).await.len(), 0);

    let other = Input { cipher_suites: vec![1], ..input };
    refused(call(&alice, &other).await, 409, "IdempotencyConflict");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_50_claims_at_once_on_20_packages_20_get_one_of_their_own_and_the_rest_the_last_resort() {
    let server = TestServer::start().await;
    let bob = server.newcomer("bob", 20).await;
    bob.publish(0, true).await.unwrap();
    let mut calls = Vec::new();
    for number in 0..10 {
        let inviter = server.newcomer(&format!("inviter {number}"), 0).await;
        let stream = inviter.create_convo().await.unwrap();
        for _ in 0..5 {
            let (inviter, input) = (Arc::clone(&inviter), claim(&stream, &[bob.did()]));
            calls.push(async move { packages(&inviter, &input).await });
        }
    }
    let given: Vec<Package> = at_once(calls).await.into_iter().flatten().collect();
    assert_eq!(given.len(), 50);
    let (last, one_time): (Vec<_>, Vec<_>) = given.into_iter().partition(|package| package.last_resort);
    assert_eq!(one_time.len(), 20);
    let distinct: BTreeSet<Vec<u8>> = one_time.into_iter().map(|package| package.r#ref.0).collect();
    assert_eq!(distinct.len(), 20, "none is given twice");
    assert!(last.iter().all(|package| package.r#ref == last[0].r#ref));
    server.stop().await;
}

#[tokio::test]
async fn who_asks_too_often_gets_the_last_resort_until_tomorrow() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 20).await);
    bob.publish(0, true).await.unwrap();
    let stream = alice.create_convo().await.unwrap();
    let mut one_time = 0;
    for _ in 0..8 {
        one_time += usize::from(!packages(&alice, &claim(&stream, &[bob.did()])).await[0].last_resort);
    }
    assert_eq!(one_time, 5);
    clock.advance_ms(24 * 60 * 60 * 1000 + 1000);
    assert!(!packages(&alice, &claim(&stream, &[bob.did()])).await[0].last_resort);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_often_at_once_gets_no_more() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 30).await);
    bob.publish(0, true).await.unwrap();
    let stream = alice.create_convo().await.unwrap();
    let calls = (0..30).map(|_| {
        let (alice, input) = (Arc::clone(&alice), claim(&stream, &[bob.did()]));
        async move { packages(&alice, &input).await }
    });
    let given = at_once(calls).await.into_iter().flatten();
    assert_eq!(given.filter(|package| !package.last_resort).count(), 5);
    server.stop().await;
}

#[tokio::test]
async fn an_account_that_is_named_twice_is_an_invalid_request() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 2).await);
    let stream = alice.create_convo().await.unwrap();
    refused(call(&alice, &claim(&stream, &[bob.did(), alice.did(), bob.did()])).await, 400, "InvalidRequest");
    assert_eq!(packages(&alice, &claim(&stream, &[bob.did()])).await.len(), 1, "nothing was taken");
    server.stop().await;
}

/// Adds devices to the account up to `devices`, each certified and with a last-resort package of 16 KiB.
async fn many_devices(server: &TestServer, person: &Person, devices: i32) {
    let fill = "with made as (
            insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
            select account_id, public_id || ' ' || n, public_key, alg, kind, state, created_at
            from device, generate_series(2, $2) n where public_id = $1 returning id, account_id, created_at
        )
        insert into key_package
            (account_id, device_id, cipher_suite, ref, init_key_hash, bytes, last_resort, expires_at, created_at,
             incarnation)
        select account_id, id, 1, sha256(id::text::bytea), sha256(id::text::bytea),
               decode(repeat('ab', 16384), 'hex'), true, now() + interval '80 days', created_at,
               (select incarnation from log_origin)
        from made";
    let fill = sqlx::query(fill).bind(person.device().as_str()).bind(devices);
    fill.execute(&mut server.database.connect().await).await.unwrap();
}

#[tokio::test]
async fn an_answer_holds_4_mib_and_names_accounts_to_ask_again() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let stream = alice.create_convo().await.unwrap();
    let mut people = Vec::new();
    for number in 0..8 {
        let person = server.newcomer(&format!("person {number}"), 1).await;
        many_devices(&server, &person, 50).await;
        people.push(person);
    }
    let targets: Vec<&Did> = people.iter().map(|person| person.did()).collect();
    let input = claim(&stream, &targets);
    let first = call(&alice, &input).await.unwrap();
    let given = first.targets.iter().map(|target| target.packages.as_ref().map_or(0, Vec::len)).collect::<Vec<_>>();
    assert_eq!(given, [50, 50, 50, 50, 50, 0, 0, 0]);
    assert!(serde_json::to_vec(&first).unwrap().len() < 8 << 20);
    let left: Vec<&Did> = first
        .targets
        .iter()
        .filter(|target| target.problem.as_deref() == Some("askAgain"))
        .map(|it| &it.account)
        .collect();
    assert_eq!(left, targets[5..]);
    let rest = call(&alice, &claim(&stream, &left)).await.unwrap();
    assert!(rest.targets.iter().all(|target| target.packages.as_ref().unwrap().len() == 50));

    // A repeat gets the stored answer, which takes a few bytes.
    assert_eq!(call(&alice, &input).await.unwrap(), first);
    let stored = "select max(octet_length(body::text)) from answer where method = 'blue.catbird.mls.claimKeyPackages'";
    let mut database = server.database.connect().await;
    let stored: i32 = sqlx::query_scalar(stored).fetch_one(&mut database).await.unwrap();
    assert!(stored < 16 << 10, "{stored}");
    server.stop().await;
}

#[tokio::test]
async fn strangers_leave_one_time_packages_for_contacts() {
    let server = TestServer::start_with(&[("INVITATIONS", "everyone")]).await;
    let bob = server.newcomer("bob", 70).await;
    bob.publish(0, true).await.unwrap();
    let taken = async |person: &Person| {
        let stream = person.create_convo().await.unwrap();
        let mut one_time = 0;
        for _ in 0..5 {
            let given = packages(person, &claim(&stream, &[bob.did()])).await;
            one_time += given.iter().filter(|package| !package.last_resort).count();
        }
        one_time
    };
    let mut by_strangers = 0;
    for number in 0..12 {
        by_strangers += taken(&*server.newcomer(&format!("stranger {number}"), 0).await).await;
    }
    assert_eq!(by_strangers, 50, "all strangers together");
    let friend = server.newcomer("friend", 0).await;
    befriend(&friend, &bob).await;
    assert_eq!(taken(&friend).await, 5);
    server.stop().await;
}

#[tokio::test]
async fn a_suite_that_nobody_offers_exhausts_nothing() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 1).await);
    let stream = alice.create_convo().await.unwrap();
    let other = Input { cipher_suites: vec![3, 65_535], ..claim(&stream, &[bob.did()]) };
    assert_eq!(call(&alice, &other).await.unwrap().targets[0].problem.as_deref(), Some("exhausted"));
    assert_eq!(packages(&alice, &claim(&stream, &[bob.did()])).await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn only_a_member_claims_for_a_stream_and_only_at_its_home() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.newcomer("stranger", 1).await;
    let input = claim(&stream, &[stranger.did()]);
    refused(call(&stranger, &input).await, 404, "StreamNotFound");
    let nowhere = claim("sfqpona3sefnrzydeijvvzw6u54sydlha", &[stranger.did()]);
    refused(call(&people[0], &nowhere).await, 404, "StreamNotFound");
    let account = Handmade::new(&server, server.account()).register().await.unwrap().stream;
    refused(call(&people[0], &claim(&account, &[stranger.did()])).await, 404, "StreamNotFound");

    let here = Input { home: Some(TestServer::did()), ..input.clone() };
    assert!(call(&people[0], &here).await.is_ok());
    let there = Input { home: Some(stranger.did().clone()), ..claim(&stream, &[stranger.did()]) };
    refused(call(&people[0], &there).await, 400, "InvalidRequest");
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    refused(call(&people[1], &claim(&stream, &[stranger.did()])).await, 403, "NotMember");
    server.stop().await;
}

#[tokio::test]
async fn an_uncertified_device_claims_nothing() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let second = server.second_device(&people[0]).await;
    refused(call(&second, &claim(&stream, &[people[1].did()])).await, 403, "DeviceUncertified");
    server.stop().await;
}

#[tokio::test]
async fn the_first_answer_comes_again_after_the_seat_ended() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let invited = server.newcomer("invited", 1).await;
    let input = claim(&stream, &[invited.did()]);
    let first = call(&people[1], &input).await.unwrap();
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    assert_eq!(call(&people[1], &input).await.unwrap(), first);
    refused(call(&people[1], &claim(&stream, &[invited.did()])).await, 403, "NotMember");
    server.stop().await;
}
