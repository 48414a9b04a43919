use rookery::lexicon::Method;
use rookery::lexicon::event::list_events::{ListEvents, Output, Params};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, refused};

async fn page(person: &Person, cursor: Option<&str>, limit: u64) -> Output {
    person.query::<ListEvents>(&Params { cursor: cursor.map(str::to_owned), limit }).await.unwrap()
}

#[tokio::test]
async fn pages_follow_each_other_and_the_last_says_so() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    for number in 0..5 {
        people[0].send(&stream, format!("message {number}").as_bytes()).await.unwrap();
    }
    server.settled().await;
    let all = page(&people[0], None, 100).await;
    assert!(!all.more);
    assert_eq!(all.cursor, all.events.last().unwrap().cursor);
    assert_eq!(page(&people[0], Some("0"), 100).await, all, "0 is the beginning, as is none");

    let (mut paged, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let next = page(&people[0], Some(&cursor), 2).await;
        assert!(next.events.len() <= 2);
        paged.extend(next.events);
        cursor = next.cursor;
        if !next.more {
            break;
        }
    }
    assert_eq!(paged, all.events);
    let nothing = page(&people[0], Some(&cursor), 2).await;
    assert_eq!((nothing.events.len(), nothing.cursor, nothing.more), (0, cursor, false), "the cursor stays");
    server.stop().await;
}

#[tokio::test]
async fn whoever_is_in_no_conversation_sees_its_own_account_alone() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;
    let second = server.second_device(&stranger).await;
    people[0].send(&stream, b"not for strangers").await.unwrap();

    server.settled().await;
    let seen = page(&stranger, None, 100).await.events;
    let kinds: Vec<&str> = seen.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["#opened", "#membership", "#device", "#device"]);
    assert!(seen.iter().all(|event| event.stream == seen[0].stream));
    assert_eq!(page(&second, None, 100).await.events, seen, "an uncertified device reads, too");
    server.stop().await;
}

#[tokio::test]
async fn a_message_shows_what_was_sent_and_not_who_sent_it() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let sent = people[0].send(&stream, b"hello").await.unwrap();
    server.settled().await;
    let seen = page(&people[1], None, 100).await.events;
    let message = seen.iter().find(|event| event.kind == "#message").unwrap();
    assert_eq!((message.seq, &message.hash, message.epoch), (sent.seq, &sent.hash, Some(sent.epoch)));
    assert_eq!(message.body, Some(sent.ciphertext));
    assert_eq!((&message.author, &message.device), (&None, &None));
    server.stop().await;
}

#[tokio::test]
async fn a_cursor_that_no_event_can_have_had_is_in_the_future() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    server.settled().await;
    let newest: u64 = page(&alice, None, 100).await.cursor.parse().unwrap();
    // Beyond what other tests on the same cluster may write meanwhile.
    for cursor in [(newest + (1 << 40)).to_string(), "9007199254740991".to_owned()] {
        let params = Params { cursor: Some(cursor), limit: 50 };
        refused(alice.query::<ListEvents>(&params).await, 400, "FutureCursor");
    }
    server.stop().await;
}

#[tokio::test]
async fn parameters_of_another_form_are_refused_by_their_name() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    for (query, field) in [
        ("?cursor=x", "cursor"),
        ("?cursor=-1", "cursor"),
        ("?cursor=9007199254740993", "cursor"),
        ("?cursor=12345678901234567", "cursor"),
        ("?limit=0", "limit"),
        ("?limit=101", "limit"),
        ("?limit=1.0", "limit"),
        ("?limit=5&limit=6", "limit"),
    ] {
        let answer = server.raw(ListEvents::NSID, query).token(&alice.token(ListEvents::NSID)).send().await;
        assert_eq!(answer.outcome(), (400, "InvalidRequest"), "{query}");
        assert!(answer.body["message"].as_str().unwrap().contains(field), "{query}: {}", answer.body);
    }
    let answer = server.raw(ListEvents::NSID, "?limit=&unknown=1").token(&alice.token(ListEvents::NSID)).send().await;
    assert_eq!(answer.status, 200, "an empty value is none, and what nobody knows is passed over");
    server.stop().await;
}
