//! Leaving with all that one wrote: in steps that delay nobody, and that a crash neither loses nor repeats.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rookery::lexicon::mls::leave_convo::{Input, LeaveConvo};
use rookery::log::body::{Body, ErasedBody};
use rookery::types::Bytes;
use rookery_client::{Feed, Received};
use rookery_testkit::Person;
use sqlx::PgConnection;

use crate::support::{Fleet, TestServer, conversation, grow, idem, write_messages};

const MESSAGES: usize = 20_000;
/// What leaving and each message of others take at most, on a busy machine.
const PROMPT: Duration = Duration::from_secs(4);
/// The job ends within this time.
const ENDS: Duration = Duration::from_mins(2);

fn leaving(stream: &str) -> Input {
    Input { stream: stream.to_owned(), idem: idem(), new_admin: None, erase: Some(true), immediate: None }
}

/// Jobs that are not done yet, and how far the first of them is.
async fn jobs(database: &mut PgConnection) -> (i64, i64) {
    let jobs = "select count(*), coalesce(min(done_seq), 0) from erasure_job";
    sqlx::query_as(jobs).fetch_one(database).await.unwrap()
}

/// Messages of an account that still have contents.
async fn kept(database: &mut PgConnection, author: &Person) -> i64 {
    let kept = "select count(*) from entry_content e join account a on a.id = e.author
                where a.did = $1 and e.kind = 4 and e.content is not null";
    sqlx::query_scalar(kept).bind(author.did().as_str()).fetch_one(database).await.unwrap()
}

/// The messages that each `#erased` entry names, in their order. Each such entry is of a transaction of its own.
async fn erased(reader: &Person, stream: &str) -> Vec<Vec<u64>> {
    let entries = reader.entries(stream, 0).await.unwrap();
    let bodies = entries.into_iter().filter(|entry| entry.kind == "#erased").filter_map(|entry| entry.body);
    let seqs = |body: Bytes| ErasedBody::decode(body.as_slice()).unwrap().seqs;
    bodies.map(|body| seqs(body).into_iter().map(|seq| seq.0).collect()).collect()
}

/// How long a message takes from its sender to a listener.
async fn hear(sender: &Person, listener: &mut Feed, stream: &str) -> Duration {
    let asked = Instant::now();
    let sent = sender.send(stream, b"heard").await.unwrap();
    loop {
        match listener.next().await.unwrap() {
            Received::Event(event) if event.stream == stream && event.seq == sent.seq => return asked.elapsed(),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_20_000_messages_delays_nobody() {
    let server = TestServer::start_alone().await;
    let (stream, people) = conversation(&server, 3).await;
    let (alice, bob, carol) = (&people[0], &people[1], &people[2]);
    alice.send(&stream, b"stays").await.unwrap();
    let mut database = server.database.connect().await;
    write_messages(&mut database, &stream, bob.did(), MESSAGES, &[7; 500]).await;
    let mut feed = Feed::new(carol, None);
    feed.connect().await.unwrap();
    // The rows that this test wrote have passed the tailer.
    hear(alice, &mut feed, &stream).await;

    let begun = Instant::now();
    let left = bob.procedure::<LeaveConvo>(&leaving(&stream)).await.unwrap();
    assert!(begun.elapsed() < PROMPT, "leaving took {:?}", begun.elapsed());
    let mut heard = 0;
    while jobs(&mut database).await.0 > 0 {
        assert!(begun.elapsed() < ENDS, "the erasure does not end");
        let took = hear(alice, &mut feed, &stream).await;
        assert!(took < PROMPT, "message {heard} took {took:?}");
        heard += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(heard > 3, "{heard} messages were heard meanwhile");
    assert_eq!(kept(&mut database, bob).await, 0);
    assert_eq!(kept(&mut database, alice).await, 2 + heard, "nobody else's");
    let erased = erased(alice, &stream).await;
    assert!(erased.iter().all(|one| one.len() <= 1_000), "a transaction erases at most 1,000 messages");
    let erased = erased.concat();
    assert_eq!(erased.len(), MESSAGES);
    assert!(erased.iter().all(|seq| *seq < left.seq));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_an_erasure_loses_and_repeats_nothing() {
    let mut fleet = Fleet::start(1).await;
    let people = [fleet.person("alice", 0).await, fleet.person("bob", 0).await];
    let stream = people[0].create_convo().await.unwrap();
    grow(&people, &stream).await;
    let mut database = fleet.connect().await;
    write_messages(&mut database, &stream, people[1].did(), MESSAGES, b"gone").await;

    people[1].procedure::<LeaveConvo>(&leaving(&stream)).await.unwrap();
    let begun = Instant::now();
    for share in 1..=2 {
        // In the middle, twice.
        loop {
            let (jobs, done) = jobs(&mut database).await;
            assert_eq!(jobs, 1, "the job is over before it could be interrupted");
            if done > i64::try_from(MESSAGES * share / 4).unwrap() {
                break;
            }
            assert!(begun.elapsed() < ENDS, "the erasure does not begin");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        fleet.kill(0).await;
        let (jobs, done) = jobs(&mut database).await;
        assert!(jobs == 1 && done > 0, "what was done is kept");
        fleet.restart(0).await;
    }
    while jobs(&mut database).await.0 > 0 {
        assert!(begun.elapsed() < ENDS, "the erasure does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(kept(&mut database, &people[1]).await, 0);
    let named = erased(&people[0], &stream).await.concat();
    assert_eq!(named.len(), MESSAGES, "each message is named by one entry");
    assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), MESSAGES);
    fleet.stop().await;
}
