//! The order of a conversation: dense, unique, chained, and the same for everybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::event::defs::Entry;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::chain::{entry_hash, links};
use rookery::types::Hash;
use rookery_client::{Feed, Received};
use rookery_testkit::Person;

use crate::support::{Instances, TestServer, conversation};

const INSTANCES: usize = 3;
const SENDERS: usize = 32;
const MESSAGES_EACH: usize = 8;
/// A listener hears all that was sent within this time, on a busy machine too.
const HEARD: Duration = Duration::from_secs(30);
/// Messages of each kind that reach the writer together.
const MIXED: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn seq_is_dense_and_unique_under_32_concurrent_senders() {
    seq_is_dense_on(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seq_is_dense_when_32_senders_alternate_instances() {
    seq_is_dense_on(INSTANCES).await;
}

/// Each sender calls one instance after the other; on each instance somebody listens.
async fn seq_is_dense_on(instances: usize) {
    let servers = Instances::start(instances).await;
    let (stream, people) = conversation(&servers.first, SENDERS).await;
    let before = people[0].entries(&stream, 0).await.unwrap().len();
    let senders: Vec<_> = people.iter().map(|person| servers.spread(person)).collect();
    let mut feeds = Vec::new();
    for (instance, sender) in (0..instances).zip(&senders) {
        let mut feed = Feed::new(&sender[instance], None);
        feed.connect().await.unwrap();
        feeds.push(feed);
    }

    let receipts = send_all_at_once(&senders, &stream).await;

    let sent = SENDERS * MESSAGES_EACH;
    let seqs: BTreeSet<u64> = receipts.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs.len(), sent, "no seq is given twice");
    assert_eq!(*seqs.first().unwrap(), before as u64 + 1);
    assert_eq!(*seqs.last().unwrap(), (before + sent) as u64, "there are no gaps");

    for sender in &senders[0] {
        let entries = sender.entries(&stream, 0).await.unwrap();
        assert_unbroken(&entries);
        assert_eq!(entries.len(), before + sent);
        for (seq, hash) in &receipts {
            let entry = &entries[usize::try_from(*seq).unwrap() - 1];
            assert_eq!(entry.hash.0, *hash, "the receipt is that of the entry");
        }
    }
    for feed in &mut feeds {
        let heard = tokio::time::timeout(HEARD, hear_until(feed, &stream, (before + sent) as u64)).await;
        assert_eq!(heard.expect("a listener hears every message"), seqs.iter().copied().collect::<Vec<_>>());
    }
    drop(feeds);
    servers.stop().await;
}

/// What a subscription from the present brings of that stream, up to that entry.
async fn hear_until(feed: &mut Feed, stream: &str, last: u64) -> Vec<u64> {
    let mut heard = Vec::new();
    while heard.last() != Some(&last) {
        if let Received::Event(event) = feed.next().await.unwrap()
            && event.stream == stream
        {
            heard.push(event.seq);
        }
    }
    heard
}

/// Senders and reader call one instance after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pages_while_others_write_misses_nothing_and_sees_nothing_twice() {
    let servers = Instances::start(INSTANCES).await;
    let (stream, people) = conversation(&servers.first, 8).await;
    let people: Vec<_> = people.iter().map(|person| servers.spread(person)).collect();
    let reader = people[7].clone();

    let writing = {
        let (people, stream) = (people.clone(), stream.clone());
        tokio::spawn(async move { send_all_at_once(&people[..7], &stream).await })
    };
    let mut seen = Vec::new();
    let mut cursor = "0".to_owned();
    let mut last_position = 0_u64;
    for reader in reader.iter().cycle() {
        let finished = writing.is_finished();
        if finished {
            servers.first.settled().await;
        }
        let page = reader.query::<ListEvents>(&Params { cursor: Some(cursor), limit: 3 }).await.unwrap();
        for event in &page.events {
            let position: u64 = event.cursor.parse().unwrap();
            assert!(position > last_position, "cursors rise");
            last_position = position;
            if event.stream == stream {
                seen.push(event.seq);
            }
        }
        cursor = page.cursor;
        if finished && !page.more {
            break;
        }
    }
    let receipts = writing.await.unwrap();

    let from = seen[0];
    let expected: Vec<u64> = (from..from + seen.len() as u64).collect();
    assert_eq!(seen, expected, "in order, each once");
    let newest = receipts.iter().map(|(seq, _)| *seq).max().unwrap();
    assert_eq!(*seen.last().unwrap(), newest);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_refused_leave_no_hole_between_those_that_are_taken() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 4).await;
    let (founder, late, quick, gone) = (&people[0], &people[1], &people[2], &people[3]);
    // Nothing from before a removal is taken after it, so these are refused, among others that are not.
    let mut drafts = Vec::new();
    for _ in 0..MIXED {
        drafts.push((Arc::clone(late), late.draft_message(&stream, b"too late").await.unwrap()));
    }
    founder.remove_members(&stream, &[gone.did().clone()]).await.unwrap();
    quick.arrive(&stream).await.unwrap();
    for number in 0..MIXED {
        drafts.insert(2 * number, (Arc::clone(quick), quick.draft_message(&stream, b"in time").await.unwrap()));
    }

    let tasks: Vec<_> = drafts
        .into_iter()
        .map(|(person, draft)| tokio::spawn(async move { person.procedure::<SendMessage>(&draft).await }))
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => taken += 1,
            Err(error) => {
                assert!(error.is("EpochTooOld"), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((taken, refused), (MIXED, MIXED));
    assert_unbroken(&founder.entries(&stream, 0).await.unwrap());
    server.stop().await;
}

/// From the first entry on: the next number, the hash of the one before, and its own.
pub fn assert_unbroken(entries: &[Entry]) {
    let mut prev = Hash::ZERO;
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry.seq, index as u64 + 1);
        let header = links(entry.header.as_slice(), None, prev).unwrap();
        assert_eq!(header.seq.0, entry.seq);
        prev = entry_hash(entry.header.as_slice());
        assert_eq!(entry.hash.as_slice(), prev.as_slice());
    }
}

/// All senders send at once, each one message after the other, by its instances in turn; answers the content of each
/// receipt.
async fn send_all_at_once(senders: &[Vec<Arc<Person>>], stream: &str) -> Vec<(u64, Vec<u8>)> {
    let tasks: Vec<_> = senders
        .iter()
        .map(|sender| {
            let (sender, stream) = (sender.clone(), stream.to_owned());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for (number, person) in sender.iter().cycle().take(MESSAGES_EACH).enumerate() {
                    let sent = person.send(&stream, format!("message {number}").as_bytes()).await.unwrap();
                    receipts.push((sent.seq, sent.hash.0));
                }
                receipts
            })
        })
        .collect();
    let mut receipts = Vec::new();
    for task in tasks {
        receipts.extend(task.await.unwrap());
    }
    receipts
}
