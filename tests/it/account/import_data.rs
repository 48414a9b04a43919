use rookery::lexicon::account::import_data::{ImportData, Input, Output, Relationship};
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, refused};

fn brings(person: &Person, invitations: &str) -> Input {
    let relationship = Relationship { account: person.did().clone(), state: "accepted".to_owned() };
    Input {
        invitations: Some(invitations.to_owned()),
        relationships: Some(vec![relationship]),
        blocks: None,
        seats: None,
        welcomes: None,
        homes: None,
    }
}

async fn import(person: &Person, input: &Input) -> Result<Output, CallError> {
    person.procedure::<ImportData>(input).await
}

#[tokio::test]
async fn what_is_here_stays_and_a_repeat_changes_nothing() {
    let server = TestServer::start_with(&[("INVITATIONS", "everyone")]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 3).await);
    for _ in 0..2 {
        assert_eq!(import(&bob, &brings(&alice, "contacts")).await.unwrap(), Output { waiting: vec![] });
    }
    assert_eq!(bob.stands(&alice).await, "accepted");
    let stream = alice.create_convo().await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await, None, "a contact that he brought");
    bob.relate(&alice, "remove").await.unwrap();
    bob.invitations("nobody").await;
    import(&bob, &brings(&alice, "everyone")).await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"), "what he said here holds");
    server.stop().await;
}

#[tokio::test]
async fn it_takes_a_certified_device() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 0).await);
    let second = server.second_device(&bob).await;
    refused(import(&second, &brings(&alice, "nobody")).await, 403, "DeviceUncertified");
    refused(import(&bob, &brings(&alice, "friends")).await, 400, "InvalidRequest");
    server.stop().await;
}
