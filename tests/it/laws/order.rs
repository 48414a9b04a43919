//! The order of a conversation: dense, unique, chained, and the same for everybody.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookery::lexicon::event::defs::Entry;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::chain::{entry_hash, links};
use rookery::types::Hash;
use rookery_testkit::Person;

use crate::support::{TestServer, conversation};

const SENDERS: usize = 32;
const MESSAGES_EACH: usize = 8;
/// Messages of each kind that reach the writer together.
const MIXED: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn seq_is_dense_and_unique_under_32_concurrent_senders() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, SENDERS).await;
    let before = people[0].entries(&stream, 0).await.unwrap().len();

    let receipts = send_all_at_once(&people, &stream).await;

    let sent = SENDERS * MESSAGES_EACH;
    let seqs: BTreeSet<u64> = receipts.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(seqs.len(), sent, "no seq is given twice");
    assert_eq!(*seqs.first().unwrap(), before as u64 + 1);
    assert_eq!(*seqs.last().unwrap(), (before + sent) as u64, "there are no gaps");

    let entries = people[0].entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    for (seq, hash) in receipts {
        let entry = &entries[usize::try_from(seq).unwrap() - 1];
        assert_eq!(entry.hash.0, hash, "the receipt is that of the entry");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_pages_while_others_write_misses_nothing_and_sees_nothing_twice() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 8).await;
    let reader = Arc::clone(&people[7]);

    let writing = {
        let (people, stream) = (people.clone(), stream.clone());
        tokio::spawn(async move { send_all_at_once(&people[..7], &stream).await })
    };
    let mut seen = Vec::new();
    let mut cursor = "0".to_owned();
    let mut last_position = 0_u64;
    loop {
        let finished = writing.is_finished();
        if finished {
            server.settled().await;
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
    server.stop().await;
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

/// Everybody sends at once; answers what each receipt said.
async fn send_all_at_once(people: &[Arc<Person>], stream: &str) -> Vec<(u64, Vec<u8>)> {
    let tasks: Vec<_> = people
        .iter()
        .map(|person| {
            let (person, stream) = (Arc::clone(person), stream.to_owned());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                for number in 0..MESSAGES_EACH {
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
