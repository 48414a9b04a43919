//! What the other tests of this folder stand on.

use std::time::Duration;

use rookery::identity::http::{get_plain, plain};
use serde_json::Value;

use crate::support::{Federation, Peers, TestServer, grow};

/// What a server says of itself under a name.
async fn document(origin: &str) -> Option<Value> {
    let url = format!("{origin}/.well-known/did.json");
    let answer = get_plain(&plain().unwrap(), &url, "application/json", 100_000).await.ok()?;
    serde_json::from_slice(answer.body()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_this_process_are_found_under_their_names_and_their_people_talk() {
    let mut servers = Federation::of(2).await;
    assert_ne!(servers[0].did(), servers[1].did());
    for number in 0..2 {
        let server = &servers[number];
        let document = document(&server.proxy.origin()).await.unwrap();
        assert_eq!(document["id"], server.did().as_str());
        assert_eq!(document["service"][0]["serviceEndpoint"], server.proxy.origin());
        let people = [server.person("one").await, server.person("two").await];
        let stream = people[0].create_convo().await.unwrap();
        grow(&people, &stream).await;
        people[1].send(&stream, b"here").await.unwrap();
        assert_eq!(people[0].entries(&stream, 0).await.unwrap().last().unwrap().kind, "#message");
    }
    let person = servers[1].person("three").await;
    servers[1].pause().await;
    assert_eq!(document(&servers[1].proxy.origin()).await, None);
    servers[1].resume(&[&person]).await;
    person.create_convo().await.unwrap();
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_lives_where_its_document_says() {
    let servers = Federation::of(2).await;
    let person = servers[0].person("mover").await;
    let at = |server: &TestServer| rookery_client::Service::new(&server.url(), server.name().clone()).unwrap();
    servers[1].houses(person.account());
    let moved = rookery_testkit::Person::new("moved", person.account().clone(), at(&servers[1]).into()).unwrap();
    moved.register().await.unwrap();
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_killed_restarted_and_put_back_to_what_they_were() {
    let mut servers = Peers::start(2, 1, &[]).await;
    let patience = Duration::from_secs(20);
    let alice = servers[0].person("alice", patience).await;
    let bob = servers[1].person("bob", patience).await;
    let (kept, backup) = (alice.create_convo().await.unwrap(), servers[0].backup().await);
    let lost = alice.create_convo().await.unwrap();
    servers[0].kill().await;
    assert_eq!(document(&servers[0].proxy.origin()).await, None);
    bob.create_convo().await.unwrap();
    servers[0].restart().await;
    assert_eq!(document(&servers[0].proxy.origin()).await.unwrap()["id"], servers[0].did().as_str());
    assert_eq!(alice.convo(&lost).await.unwrap().stream, lost);
    servers[0].restore(&backup).await;
    let (listed, well) = servers[0].command(&["account", "list"]).await;
    assert!(well && listed.contains(alice.did().as_str()), "{listed}");
    servers[0].restart().await;
    assert_eq!(alice.convo(&kept).await.unwrap().stream, kept);
    assert!(alice.convo(&lost).await.unwrap_err().is("StreamNotFound"));
    servers.stop().await;
}
