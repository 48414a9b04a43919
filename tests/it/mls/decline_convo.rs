use rookery::lexicon::mls::decline_convo::{DeclineConvo, Input, Output};
use rookery_client::CallError;
use rookery_testkit::Person;

use super::accept_convo::accept;
use super::list_invitations::{invited, two, waiting};
use crate::support::{Contacts, TestServer, refused};

async fn decline(person: &Person, stream: &str, block: Option<bool>) -> Result<Output, CallError> {
    person.procedure::<DeclineConvo>(&Input { stream: stream.to_owned(), block }).await
}

#[tokio::test]
async fn a_declined_invitation_ends_the_seat_and_may_come_again() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 4).await;
    let stream = invited(&alice, &bob).await;
    for _ in 0..2 {
        decline(&bob, &stream, None).await.unwrap();
    }
    assert_eq!(waiting(&bob).await, []);
    let left = alice.entries(&stream, 0).await.unwrap();
    assert_eq!(left.last().unwrap().kind, "#membership");
    assert_eq!(left.len(), 5, "one entry for two calls");
    refused(accept(&bob, &stream).await, 404, "InvitationNotFound");

    alice.arrive(&stream).await.unwrap();
    alice.remove_members(&stream, &[bob.did().clone()]).await.unwrap();
    bob.invitations("everyone").await;
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    bob.arrive(&stream).await.unwrap();
    refused(decline(&bob, &stream, None).await, 404, "InvitationNotFound");
    server.stop().await;
}

#[tokio::test]
async fn declining_may_block_who_invited() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 4).await;
    let (first, second) = (invited(&alice, &bob).await, invited(&alice, &bob).await);
    decline(&bob, &first, Some(true)).await.unwrap();
    assert_eq!(waiting(&bob).await, [], "the other one, too");
    bob.invitations("everyone").await;
    assert_eq!(alice.claims(&second, bob.did()).await.as_deref(), Some("consentRequired"));
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_wait_is_not_declined() {
    let server = TestServer::start().await;
    let (alice, bob) = two(&server, 2).await;
    let stream = invited(&alice, &bob).await;
    refused(decline(&alice, &stream, None).await, 404, "InvitationNotFound");
    let second = server.second_device(&bob).await;
    refused(decline(&second, &stream, None).await, 403, "DeviceUncertified");
    accept(&bob, &stream).await.unwrap();
    refused(decline(&bob, &stream, None).await, 404, "InvitationNotFound");
    refused(decline(&bob, "sfqpona3sefnrzydeijvvzw6u54sydlha", None).await, 404, "InvitationNotFound");
    server.stop().await;
}
