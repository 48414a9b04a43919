use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::accept_convo::{AcceptConvo, Input, Output};
use rookery_client::CallError;
use rookery_testkit::Person;

use super::list_invitations::{invited, two, waiting};
use crate::support::{Contacts, Events, TestServer, certify, refused};

pub async fn accept(person: &Person, stream: &str) -> Result<Output, CallError> {
    person.procedure::<AcceptConvo>(&Input { stream: stream.to_owned() }).await
}

#[tokio::test]
async fn a_taken_invitation_shows_its_welcome_and_the_two_talk() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 2).await;
    let stream = invited(&alice, &bob).await;
    for _ in 0..2 {
        accept(&bob, &stream).await.unwrap();
    }
    assert_eq!(waiting(&bob).await, []);
    bob.arrive(&stream).await.unwrap();
    bob.send(&stream, b"here I am").await.unwrap();
    alice.arrive(&stream).await.unwrap();
    // Whoever took a conversation is in it, whoever adds a further device of the account.
    let second = server.second_device(&bob).await;
    certify(&bob, &second).await;
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    second.arrive(&stream).await.unwrap();
    assert_eq!(waiting(&bob).await, []);
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_wait_is_not_taken() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 3).await;
    let stream = invited(&alice, &bob).await;
    refused(accept(&alice, &stream).await, 404, "InvitationNotFound");
    let second = server.second_device(&bob).await;
    refused(accept(&second, &stream).await, 403, "DeviceUncertified");
    refused(accept(&bob, "sfqpona3sefnrzydeijvvzw6u54sydlha").await, 404, "InvitationNotFound");
    refused(accept(&bob, "nothing").await, 400, "InvalidRequest");
    bob.block(&alice, true).await;
    assert_eq!(waiting(&bob).await, [], "a block takes them away");
    refused(accept(&bob, &stream).await, 404, "InvitationNotFound");
    server.stop().await;
}

#[tokio::test]
async fn what_waits_shows_no_entry_and_what_was_taken_comes_from_then_on() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 3).await;
    let stream = invited(&alice, &bob).await;
    server.settled().await;
    let mut live = Events::open(&server, &bob, "").await;
    let sent = alice.send(&stream, b"who is there?").await.unwrap();
    live.is_silent_of(&stream).await;
    refused(bob.entries(&stream, 0).await, 404, "StreamNotFound");
    let all = Params { cursor: Some("0".to_owned()), limit: 100 };
    let shown = async || {
        let page = bob.query::<ListEvents>(&all).await.unwrap();
        page.events.into_iter().filter(|event| event.stream == stream).map(|event| event.seq).collect::<Vec<_>>()
    };
    assert_eq!(shown().await, [] as [u64; 0]);

    accept(&bob, &stream).await.unwrap();
    let (_, taken, _) = live.event().await;
    let (_, welcome, _) = live.event().await;
    assert_eq!([taken.as_str(), welcome.as_str()], ["#invitation", "#welcome"]);
    bob.arrive(&stream).await.unwrap();
    let next = alice.send(&stream, b"welcome").await.unwrap();
    assert_eq!(live.until(&stream, next.seq).await, [(stream.clone(), next.seq)]);
    server.settled().await;
    assert_eq!(shown().await, [sent.seq - 1, sent.seq, next.seq], "and what came before can be read");
    server.stop().await;
}
