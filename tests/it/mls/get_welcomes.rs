use std::sync::Arc;

use rookery::lexicon::mls::get_welcomes::{GetWelcomes, Output, Params};
use rookery_testkit::Person;

use crate::support::{TestServer, paged, refused};

async fn page(person: &Person, limit: u64, cursor: Option<String>) -> Output {
    person.query::<GetWelcomes>(&Params { limit, cursor }).await.unwrap()
}

/// Somebody who was invited to so many conversations, and their streams.
async fn invited(server: &TestServer, times: usize) -> (Arc<Person>, Vec<String>) {
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", times).await);
    let mut streams = Vec::new();
    for _ in 0..times {
        let stream = alice.create_convo().await.unwrap();
        alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
        streams.push(stream);
    }
    (bob, streams)
}

#[tokio::test]
async fn welcomes_wait_from_the_commit_on_and_come_in_pages_oldest_first() {
    let server = TestServer::start().await;
    let (bob, streams) = invited(&server, 4).await;
    for limit in [1, 2, 3, 4, 20] {
        let seen = paged(async |cursor| {
            let next = page(&bob, limit, cursor).await;
            assert!(next.welcomes.iter().all(|welcome| welcome.epoch == 1 && welcome.seq == 4));
            (next.welcomes.into_iter().map(|welcome| welcome.stream).collect(), next.cursor)
        });
        assert_eq!(seen.await, streams, "{limit} a page");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_welcome_waits_for_its_own_device_alone_until_it_is_acknowledged() {
    let server = TestServer::start().await;
    let (bob, streams) = invited(&server, 2).await;
    let second = server.second_device(&bob).await;
    let stranger = server.person("stranger").await;
    for other in [&second, &stranger] {
        assert_eq!(page(other, 10, None).await, Output { welcomes: vec![], cursor: None });
    }
    bob.arrive(&streams[0]).await.unwrap();
    assert_eq!(page(&bob, 10, None).await.welcomes, [], "joining acknowledges");
    let wrong = Params { limit: 10, cursor: Some("x".to_owned()) };
    refused(bob.query::<GetWelcomes>(&wrong).await, 400, "InvalidRequest");
    let many = Params { limit: 21, cursor: None };
    refused(bob.query::<GetWelcomes>(&many).await, 400, "InvalidRequest");
    server.stop().await;
}
