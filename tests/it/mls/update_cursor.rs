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

#[tokio::test(flavor = "multi_thread")]
async fn positions_of_many_calls_at_once_only_rise() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let mut head = 0;
    for _ in 0..20 {
        head = people[0].send(&stream, b"read me").await.unwrap().seq;
    }
    let first = head - 19;
    // Up and down at once, by two accounts.
    let calls = (first..=head).chain((first..=head).rev()).flat_map(|seq| [(&people[1], seq), (&people[2], seq)]);
    let answers = futures_util::future::join_all(calls.map(|(person, seq)| {
        let stream = &stream;
        async move { (seq, read_to(person, stream, seq).await.unwrap().seq) }
    }));
    for (asked, stands) in answers.await {
        assert!((asked..=head).contains(&stands), "asked for {asked}, stands at {stands}");
    }
    for person in &people[1..] {
        assert_eq!(person.convo(&stream).await.unwrap().settings.last_read_seq, head);
    }
    server.stop().await;
}

/// Unread messages are counted from entries of other kinds, or, where those are many, one by one.
#[tokio::test(flavor = "multi_thread")]
async fn unread_messages_are_counted_among_entries_of_all_kinds() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    people[0].send(&stream, b"one").await.unwrap();
    let guest = server.newcomer("guest", 1).await;
    people[0].add_members(&stream, &[guest.did().clone()]).await.unwrap();
    people[0].send(&stream, b"two").await.unwrap();
    assert_eq!(people[1].convo(&stream).await.unwrap().unread, 2);
    assert_eq!(guest.convo(&stream).await.unwrap().unread, 1);

    let mut database = server.database.connect().await;
    let others = "with s as (select id, head_seq from stream where public_id = $1)
        insert into entry (stream_id, seq, pos, created_at, content_bytes, week, kind, header, hash)
        select s.id, s.head_seq + n, -n, now(), 0, 0, 5, '', '' from s, generate_series(1, 1100) n";
    sqlx::query(others).bind(&stream).execute(&mut database).await.unwrap();
    let head = "update stream set head_seq = head_seq + 1100 where public_id = $1";
    sqlx::query(head).bind(&stream).execute(&mut database).await.unwrap();
    assert_eq!(people[1].convo(&stream).await.unwrap().unread, 2, "behind 1,100 commits");
    server.stop().await;
}
