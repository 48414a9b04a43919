use rookery::cli::demo::Person;
use rookery::lexicon::mls::accept_convo::{AcceptConvo, Input, Output};
use rookery_client::CallError;

use super::list_invitations::{invited, two, waiting};
use crate::support::{Contacts, TestServer, certify, refused};

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
