use std::sync::Arc;

use rookery::lexicon::mls::decline_convo::{self, DeclineConvo};
use rookery::lexicon::mls::leave_convo::{Input, LeaveConvo, Output};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, at_once, conversation, idem, refused};

fn leave(stream: &str) -> Input {
    Input { stream: stream.to_owned(), idem: idem(), new_admin: None, erase: None, immediate: None }
}

async fn call(person: &Person, input: &Input) -> Result<Output, CallError> {
    person.procedure::<LeaveConvo>(input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_ends_the_seat_once_however_often_it_is_said() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let draft = people[1].draft_message(&stream, b"too late").await.unwrap();
    let input = leave(&stream);
    let calls = (0..12).map(|_| {
        let (bob, input) = (Arc::clone(&people[1]), input.clone());
        async move { call(&bob, &input).await.unwrap() }
    });
    let mut answers = at_once(calls).await;
    answers.push(call(&people[1], &input).await.unwrap());
    assert!(answers.iter().all(|answer| *answer == answers[0]));

    refused(people[1].procedure::<SendMessage>(&draft).await, 403, "NotMember");
    let other = Input { new_admin: Some(people[2].did().clone()), ..input };
    refused(call(&people[1], &other).await, 409, "IdempotencyConflict");
    refused(call(&people[1], &leave(&stream)).await, 403, "NotMember");
    let convo = people[0].convo(&stream).await.unwrap();
    assert_eq!((convo.members.len(), convo.head.seq), (2, answers[0].seq));
    server.stop().await;
}

#[tokio::test]
async fn the_last_admin_leaves_by_naming_another_member() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let stranger = server.person("stranger").await;
    let naming = |person: &Person| Input { new_admin: Some(person.did().clone()), ..leave(&stream) };
    refused(call(&people[0], &leave(&stream)).await, 409, "LastAdmin");
    for nobody in [&stranger, &people[0]] {
        refused(call(&people[0], &naming(nobody)).await, 404, "MemberNotFound");
    }
    call(&people[0], &naming(&people[1])).await.unwrap();
    assert_eq!(people[1].convo(&stream).await.unwrap().role, "admin");
    assert_eq!(people[2].convo(&stream).await.unwrap().role, "member");
    refused(call(&people[1], &leave(&stream)).await, 409, "LastAdmin");
    server.stop().await;
}

#[tokio::test]
async fn a_successor_has_joined_and_a_declining_one_hands_on_its_role() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, carol) = (&people[0], &people[1]);
    let bob = server.newcomer("bob", 1).await;
    bob.invitations("everyone").await;
    let claimed = alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
    bob.invitations("nobody").await;
    alice.change(&stream, &claimed, &[]).await.unwrap();
    let naming = |person: &Person| Input { new_admin: Some(person.did().clone()), ..leave(&stream) };
    refused(call(alice, &naming(&bob)).await, 404, "MemberNotFound");

    // As an older server left the rows: the only admin has not accepted yet.
    let role = "update seat set role = case when account_id = (select id from account where did = $1) then 2 else 1 end
                where stream_id = (select id from stream where public_id = $2) and until_seq is null";
    let role = sqlx::query(role).bind(bob.did().as_str()).bind(&stream);
    role.execute(&mut server.database.connect().await).await.unwrap();
    bob.procedure::<DeclineConvo>(&decline_convo::Input { stream: stream.clone(), block: None }).await.unwrap();
    assert_eq!(alice.convo(&stream).await.unwrap().role, "admin", "the member that came first");
    assert_eq!(carol.convo(&stream).await.unwrap().role, "member");
    server.stop().await;
}

#[tokio::test]
async fn who_is_no_admin_cannot_make_one_by_leaving() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let input = Input { new_admin: Some(people[2].did().clone()), ..leave(&stream) };
    let _either = call(&people[1], &input).await;
    assert_eq!(people[2].convo(&stream).await.unwrap().role, "member");
    server.stop().await;
}

#[tokio::test]
async fn whoever_is_alone_may_leave_and_a_stranger_finds_nothing_to_leave() {
    let server = TestServer::start().await;
    let (alice, stranger) = (server.person("alice").await, server.person("stranger").await);
    let stream = alice.create_convo().await.unwrap();
    refused(call(&stranger, &leave(&stream)).await, 404, "StreamNotFound");
    refused(call(&stranger, &leave("sfqpona3sefnrzydeijvvzw6u54sydlha")).await, 404, "StreamNotFound");
    let own = alice.register().await.unwrap().stream;
    refused(call(&alice, &leave(&own)).await, 404, "StreamNotFound");
    call(&alice, &leave(&stream)).await.unwrap();
    refused(alice.convo(&stream).await, 404, "StreamNotFound");
    server.stop().await;
}

#[tokio::test]
async fn an_uncertified_device_does_not_take_its_account_out() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let second = server.second_device(&people[1]).await;
    refused(call(&second, &leave(&stream)).await, 403, "DeviceUncertified");
    assert!(people[1].convo(&stream).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn leaving_may_erase_the_accounts_own_messages_and_nobody_elses() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut expected = Vec::new();
    for number in 0..4 {
        let speaker = &people[number % 2];
        let sent = speaker.send(&stream, b"said").await.unwrap();
        expected.push((sent.seq, number % 2 == 0));
    }
    let input = Input { erase: Some(true), ..leave(&stream) };
    let left = people[1].procedure::<LeaveConvo>(&input).await.unwrap();
    assert_eq!(people[1].procedure::<LeaveConvo>(&input).await.unwrap(), left, "a repeat erases nothing anew");
    let entries = people[0].entries(&stream, 0).await.unwrap();
    let messages = entries.iter().filter(|entry| entry.kind == "#message");
    let kept: Vec<(u64, bool)> = messages.map(|entry| (entry.seq, entry.body.is_some())).collect();
    assert_eq!(kept, expected, "headers stay");
    let kinds: Vec<&str> = entries.iter().rev().take(2).map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["#membership", "#erased"]);
    server.stop().await;
}
