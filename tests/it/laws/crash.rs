//! A server that is killed with -9 during load loses nothing that it acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rookery::cli::demo::Person;

use crate::support::{ChildServer, grow};

const ROUNDS: usize = 3;
const SENDERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_during_load_loses_no_acknowledged_message_and_doubles_none() {
    let mut server = ChildServer::start().await;
    let founder = server.person("founder").await;
    let mut people = vec![Arc::clone(&founder)];
    for number in 1..SENDERS {
        people.push(server.person(&format!("member {number}")).await);
    }
    let stream = founder.create_convo().await.unwrap();
    grow(&people, &stream).await;

    let done = Arc::new(AtomicBool::new(false));
    let sending: Vec<_> = people
        .iter()
        .map(|person| tokio::spawn(send_until(Arc::clone(person), stream.clone(), Arc::clone(&done))))
        .collect();
    for round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Once with its Postgres, so that recovery from the WAL is part of it.
        server.kill(round == 1).await;
        server.restart().await;
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    done.store(true, Ordering::SeqCst);
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for task in sending {
        for (seq, hash) in task.await.unwrap() {
            assert!(acknowledged.insert(seq, hash).is_none(), "two messages were told the same seq");
        }
    }

    let entries = founder.entries(&stream, 0).await.unwrap();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=entries.len() as u64).collect::<Vec<_>>(), "dense");
    let messages = entries.iter().filter(|entry| entry.kind == "#message").count();
    assert!(messages >= SENDERS * ROUNDS, "there was load: {messages} messages");
    assert_eq!(messages, acknowledged.len(), "every send was acknowledged in the end, and none was written twice");
    for entry in entries.iter().filter(|entry| entry.kind == "#message") {
        assert_eq!(acknowledged.get(&entry.seq), Some(&entry.hash.0));
    }
    server.stop().await;
}

/// Sends one message after the other; each is repeated with its own name until it is acknowledged.
async fn send_until(person: Arc<Person>, stream: String, done: Arc<AtomicBool>) -> Vec<(u64, Vec<u8>)> {
    let mut receipts = Vec::new();
    while !done.load(Ordering::SeqCst) {
        let sent = person.send(&stream, b"under load").await.unwrap();
        receipts.push((sent.seq, sent.hash.0));
    }
    receipts
}
