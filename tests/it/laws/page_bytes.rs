//! Pages, queues and buffers are bounded in bytes, for entries of any size.

use std::sync::Arc;
use std::time::Duration;

use rookery::config::SubscriberBuffer;
use rookery::lexicon::Method;
use rookery::lexicon::event::list_events::ListEvents;
use rookery::lexicon::mls::get_messages::GetMessages;
use rookery::log::{Ended, Filter};
use rookery_client::{EventCursor, Feed, Received};
use rookery_testkit::Person;
use serde_json::Value;
use sqlx::Connection;

use crate::support::{TestServer, at_once, conversation, eventually};

/// Bytes of a message, near the limit.
const LARGE_BYTES: usize = 940_000;
const LARGE_MESSAGES: usize = 12;
/// The bytes that a PDS passes on, less its own overhead.
const ANSWER_BYTES: usize = 8 << 20;

/// An answer as received, with its length.
async fn answer(server: &TestServer, person: &Person, nsid: &str, query: &str) -> (usize, Value) {
    let request = server.at(http::Method::GET, &format!("/xrpc/{nsid}?{query}"));
    let response = request.header("authorization", format!("Bearer {}", person.token(nsid))).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    (bytes.len(), serde_json::from_slice(&bytes).unwrap())
}

async fn large_conversation(server: &TestServer) -> (String, Vec<Arc<Person>>) {
    let (stream, people) = conversation(server, 2).await;
    for number in 0..LARGE_MESSAGES {
        people[0].send(&stream, &vec![u8::try_from(number).unwrap(); LARGE_BYTES]).await.unwrap();
    }
    server.settled().await;
    (stream, people)
}

fn large(entries: &Value) -> usize {
    let length = |entry: &Value| entry["body"].to_string().len();
    entries.as_array().unwrap().iter().filter(|entry| length(entry) > LARGE_BYTES).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_messages_ends_below_8_mib() {
    let server = TestServer::start().await;
    let (stream, people) = large_conversation(&server).await;
    let reader = &people[1];

    let (mut seen, mut cursor) = (0, "0".to_owned());
    loop {
        let (bytes, page) = answer(&server, reader, ListEvents::NSID, &format!("limit=100&cursor={cursor}")).await;
        assert!(bytes < ANSWER_BYTES, "listEvents: {bytes}");
        assert!(!page["events"].as_array().unwrap().is_empty());
        seen += large(&page["events"]);
        page["cursor"].as_str().unwrap().clone_into(&mut cursor);
        if page["more"] != true {
            break;
        }
    }
    assert_eq!(seen, LARGE_MESSAGES, "nothing is left out");

    for (way, field) in [("afterSeq=0", "afterSeq"), ("beforeSeq=1000", "beforeSeq")] {
        let (mut seen, mut query) = (0, way.to_owned());
        loop {
            let query_now = format!("stream={stream}&limit=100&{query}");
            let (bytes, page) = answer(&server, reader, GetMessages::NSID, &query_now).await;
            assert!(bytes < ANSWER_BYTES, "getMessages: {bytes}");
            let entries = page["entries"].as_array().unwrap();
            seen += large(&page["entries"]);
            let edge = if field == "afterSeq" { entries.last() } else { entries.first() };
            query = format!("{field}={}", edge.unwrap()["seq"]);
            if page["more"] != true {
                break;
            }
        }
        assert_eq!(seen, LARGE_MESSAGES, "{field}");
    }

    let mut feed = Feed::new(reader, Some(EventCursor::oldest()));
    let mut heard = 0;
    while heard < LARGE_MESSAGES {
        if let Received::Event(event) = feed.next().await.unwrap()
            && event.body.as_ref().is_some_and(|body| body.as_slice().len() > LARGE_BYTES)
        {
            heard += 1;
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_are_read_without_the_contents() {
    let server = TestServer::start().await;
    large_conversation(&server).await;
    let mut database = server.database.connect().await;
    let mut blocks = async |what: &str| {
        let query = format!("explain (analyze, buffers, format json) select {what}");
        let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&mut database).await.unwrap();
        let plan = &plan[0]["Plan"];
        plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
    };
    let lengths = blocks("octet_length(header) + content_bytes from entry").await;
    let contents = blocks("md5(bytes) from content").await;
    let least = (LARGE_MESSAGES * LARGE_BYTES / 8_192) as u64;
    assert!(contents > least, "the contents lie in {contents} blocks, out of line");
    assert!(lengths < 200, "their lengths are read from {lengths} blocks");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_lags_by_bytes_is_ended_as_too_slow() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let log = server.server().services().log.clone();
    let mut database = server.database.connect().await;
    let row: (i64, i64) = sqlx::query_as(
        "select d.account_id, d.id from device d join account a on a.id = d.account_id where a.did = $1",
    )
    .bind(people[1].did().as_str())
    .fetch_one(&mut database)
    .await
    .unwrap();
    // The listener hears nothing of how the conversation began.
    server.settled().await;
    let listener = log.listen(row.0, row.1).await.unwrap().unwrap();
    let buffer = SubscriberBuffer { events: 500, bytes: 100_000 };
    let mut subscription = log.subscribe(&listener, Filter::default(), buffer).await.unwrap();
    // One message of any size may wait alone; the next exceeds the limit, although 500 events may wait.
    people[0].send(&stream, &vec![7; 200_000]).await.unwrap();
    people[0].send(&stream, b"one more").await.unwrap();
    let newest: i64 = sqlx::query_scalar("select max(pos) from entry").fetch_one(&mut database).await.unwrap();
    eventually("both are handed out", async || log.hub().position().to_db() >= newest).await;
    let first = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap();
    assert!(first.is_ok(), "what was in the buffer is delivered");
    let second = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap();
    assert_eq!(second.unwrap_err(), Ended::TooSlow);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_writer_queue_counts_bytes_and_answers_when_full() {
    const SENT: usize = 100;
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut database = server.database.connect().await;
    let author: (i64, i64) = sqlx::query_as(
        "select d.account_id, d.id from device d join account a on a.id = d.account_id where a.did = $1",
    )
    .bind(people[0].did().as_str())
    .fetch_one(&mut database)
    .await
    .unwrap();
    let log = server.server().services().log.clone();
    let info = log.find_stream(&stream).await.unwrap().unwrap();
    let message = |number: usize| rookery::log::Application {
        stream: Arc::clone(&info),
        author: rookery::log::Author {
            account_id: author.0,
            device_row: author.1,
            did: people[0].did().clone(),
            device: people[0].device().clone(),
        },
        identity: rookery::log::CallIdentity {
            idem: uuid::Uuid::from_u128(number as u128),
            request_hash: rookery::types::Hash::ZERO,
        },
        epoch: rookery::types::Epoch(1),
        body: vec![7; LARGE_BYTES],
    };
    let mut tx = database.begin().await.unwrap();
    sqlx::query("select id from stream where public_id = $1 for update").bind(&stream).execute(&mut *tx).await.unwrap();
    let sends = (0..SENT).map(|number| {
        let (log, message) = (log.clone(), message(number));
        async move { log.submit(message).await.is_ok() }
    });
    let release = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tx.rollback().await.unwrap();
    };
    let (taken, ()) = tokio::join!(at_once(sends), release);
    let refused = taken.iter().filter(|taken| !**taken).count();
    // 64 MiB are 71 of these messages.
    assert!(refused >= SENT - 72, "{refused} of {SENT} were refused");
    assert!(refused < SENT, "and the others were taken");
    assert!(log.submit(message(SENT)).await.is_ok(), "the queue is free again");
    server.stop().await;
}
