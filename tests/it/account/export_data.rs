use rookery::lexicon::account::export_data::{ExportData, Output, Params};
use rookery::types::Did;
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, befriend, refused};

async fn parts(person: &Person) -> Vec<Output> {
    let (mut parts, mut params) = (Vec::new(), Params { cursor: None });
    loop {
        let part = person.query::<ExportData>(&params).await.unwrap();
        params.cursor.clone_from(&part.cursor);
        parts.push(part);
        if params.cursor.is_none() {
            return parts;
        }
    }
}

#[tokio::test]
async fn what_an_account_takes_with_it_comes_in_parts_each_thing_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 3).await);
    befriend(&alice, &bob).await;
    let stranger = server.newcomer("stranger", 0).await;
    bob.block(&stranger, true).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let stream = alice.create_convo().await.unwrap();
        alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
        streams.push(stream);
    }
    bob.invitations("contacts").await;
    let parts = parts(&bob).await;
    assert_eq!(parts[0].invitations.as_deref(), Some("contacts"));
    assert!(parts[1..].iter().all(|part| part.invitations.is_none()));
    let contacts: Vec<&Did> = parts.iter().flat_map(|part| &part.relationships).map(|one| &one.account).collect();
    assert_eq!(contacts, [alice.did()]);
    let blocks: Vec<&Did> = parts.iter().flat_map(|part| &part.blocks).collect();
    assert_eq!(blocks, [stranger.did()]);
    let seats: Vec<&str> = parts.iter().flat_map(|part| &part.seats).map(|seat| seat.stream.as_str()).collect();
    assert_eq!(seats, streams);
    let welcomes: Vec<&str> = parts.iter().flat_map(|part| &part.welcomes).map(|one| one.stream.as_str()).collect();
    assert_eq!(welcomes, streams, "none was taken");
    let wrong = Params { cursor: Some("x.1".to_owned()) };
    refused(bob.query::<ExportData>(&wrong).await, 400, "InvalidRequest");
    server.stop().await;
}
