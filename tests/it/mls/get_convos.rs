use rookery::lexicon::mls::get_convos::{GetConvos, Output, Params};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, paged, refused};

async fn page(person: &Person, limit: u64, cursor: Option<String>) -> Output {
    person.query::<GetConvos>(&Params { limit, cursor }).await.unwrap()
}

#[tokio::test]
async fn the_conversations_come_in_pages_and_the_last_has_no_cursor() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(alice.create_convo().await.unwrap());
    }
    for limit in [1, 2, 3, 4, 5] {
        let seen = paged(async |cursor| {
            let next = page(&alice, limit, cursor).await;
            (next.convos.into_iter().map(|convo| convo.stream).collect(), next.cursor)
        });
        assert_eq!(seen.await, streams, "{limit} a page");
    }
    server.stop().await;
}

#[tokio::test]
async fn only_open_seats_are_listed_each_as_get_convo_shows_it() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let own = bob.create_convo().await.unwrap();
    let listed = page(bob, 50, None).await.convos;
    assert_eq!(listed, [bob.convo(&stream).await.unwrap(), bob.convo(&own).await.unwrap()]);

    alice.remove_members(&stream, &[bob.did().clone()]).await.unwrap();
    let left: Vec<String> = page(bob, 50, None).await.convos.into_iter().map(|convo| convo.stream).collect();
    assert_eq!(left, [own]);
    let stranger = server.person("stranger").await;
    assert_eq!(page(&stranger, 50, None).await, Output { convos: vec![], cursor: None });
    let wrong = Params { limit: 50, cursor: Some("x".to_owned()) };
    refused(alice.query::<GetConvos>(&wrong).await, 400, "InvalidRequest");
    server.stop().await;
}
