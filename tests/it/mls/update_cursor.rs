//! What the account's other devices hear of it: `event/subscribe.rs`.

use rookery::lexicon::mls::update_cursor::{Input, Output, UpdateCursor};
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, refused};

async fn read_to(person: &Person, stream: &str, seq: u64) -> Result<Output, CallError> {
    person.procedure::<UpdateCursor>(&Input { stream: stream.to_owned(), seq }).await
}

#[tokio::test]
async fn the_read_position_moves_forward_only_and_no_further_than_there_is_something_to_read() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut head = 0;
    for number in 0..4 {
        head = people[0].send(&stream, format!("{number}").as_bytes()).await.unwrap().seq;
    }
    let bob = &people[1];
    for (asked, stands) in [(head - 1, head - 1), (1, head - 1), (head, head), (head + 5, head), (1 << 52, head)] {
        assert_eq!(read_to(bob, &stream, asked).await.unwrap().seq, stands, "{asked}");
    }
    let convo = bob.convo(&stream).await.unwrap();
    assert_eq!((convo.unread, convo.settings.last_read_seq), (0, head));
    people[0].send(&stream, b"one more").await.unwrap();
    assert_eq!(bob.convo(&stream).await.unwrap().unread, 1);
    assert_eq!(people[0].convo(&stream).await.unwrap().settings.last_read_seq, 0, "each has a position of its own");
    let second = server.second_device(bob).await;
    assert_eq!(read_to(&second, &stream, 1).await.unwrap().seq, head, "one for the account");
    server.stop().await;
}

#[tokio::test]
async fn who_was_removed_reads_up_to_that_and_a_stranger_has_nothing_to_read() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let removed = people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap().seq;
    people[0].send(&stream, b"later").await.unwrap();
    assert_eq!(read_to(&people[1], &stream, 1000).await.unwrap().seq, removed);
    let stranger = server.person("stranger").await;
    refused(read_to(&stranger, &stream, 1).await, 404, "StreamNotFound");
    server.stop().await;
}
