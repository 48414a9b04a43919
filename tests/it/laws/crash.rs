//! A server with a private Postgres that is killed with -9 under load: nothing that was acknowledged is lost, and
//! nothing is there twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::order::assert_unbroken;
use crate::support::{ChildServer, Load, grow};

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

    let load = Load::new(SENDERS);
    let sending = load.begin(&people, &stream, Duration::ZERO);
    for round in 0..ROUNDS {
        load.goes_on().await;
        // Once with its Postgres, so that recovery from the WAL is part of it.
        server.kill(round == 1).await;
        server.restart().await;
    }
    load.goes_on().await;
    load.end();
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for task in sending {
        for (seq, hash) in task.await.unwrap() {
            assert!(acknowledged.insert(seq, hash).is_none(), "two messages were told the same seq");
        }
    }

    let entries = founder.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    let messages = entries.iter().filter(|entry| entry.kind == "#message").count();
    assert_eq!(messages, acknowledged.len(), "every send was acknowledged in the end, and none was written twice");
    for entry in entries.iter().filter(|entry| entry.kind == "#message") {
        assert_eq!(acknowledged.get(&entry.seq), Some(&entry.hash.0));
    }
    server.stop().await;
}
