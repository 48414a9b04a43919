//! A database whose connections fall silent without being closed.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use rookery::lexicon::mls::send_message::SendMessage;
use tokio::time::Instant;

use crate::support::{Events, PostgresProxy, TestDatabase, TestServer, conversation};

/// Time after its connections fell silent in which a server is ready again, or has ended.
const READY: Duration = Duration::from_mins(1);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_replaced_and_nothing_is_lost() {
    let database = TestDatabase::create().await;
    let proxy = PostgresProxy::before(&database.url).await;
    let server = TestServer::start_at_url(&proxy.url, &[("DATABASE_POOL", "16")]).await;
    let (stream, people) = conversation(&server, 4).await;
    let mut events = Events::open(&server, &people[1], "").await;
    let mut before = 0;
    for sent in join_all(people.iter().map(|person| person.send(&stream, b"before"))).await {
        before = before.max(sent.unwrap().seq);
    }
    events.until(&stream, before).await;

    proxy.silence();
    let silent = Instant::now();
    let sends = people.iter().map(|person| async {
        let draft = person.draft_message(&stream, b"after").await.unwrap();
        // Repeats the call until it succeeds.
        loop {
            match person.procedure::<SendMessage>(&draft).await {
                Ok(told) => return told.seq,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
    let ready = async {
        while server.ready().await.0 != 200 {
            tokio::time::sleep(PAUSE).await;
        }
        silent.elapsed()
    };
    let (ready, seqs) = tokio::join!(tokio::time::timeout(READY, ready), tokio::time::timeout(READY, join_all(sends)));
    ready.expect("the server is ready again");
    let seqs: BTreeSet<u64> = seqs.expect("sending works again").into_iter().collect();
    assert_eq!(seqs, (before + 1..=before + people.len() as u64).collect(), "each message was written once");
    // The tailer reads on: a listener gets messages sent from now on.
    let mut events = Events::open(&server, &people[1], "").await;
    let sent = people[0].send(&stream, b"on").await.unwrap();
    events.until(&stream, sent.seq).await;
    tokio::time::timeout(Duration::from_secs(1), server.server().failed()).await.unwrap_err();
    server.stop().await;
}

/// A plain outage does not end the process: the next process would find the same outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlasts_an_outage_of_its_database() {
    let database = TestDatabase::create().await;
    let proxy = PostgresProxy::before(&database.url).await;
    let server = TestServer::start_at_url(&proxy.url, &[]).await;
    let alice = server.person("alice").await;
    proxy.take_connections(false);
    proxy.silence();
    let outage = tokio::time::timeout(READY, server.server().failed()).await;
    assert!(outage.is_err(), "the outage would end the process: {outage:?}");
    assert_eq!(server.ready().await.0, 503);
    proxy.take_connections(true);
    let back = Instant::now();
    while alice.create_convo().await.is_err() {
        assert!(back.elapsed() < Duration::from_secs(20), "the server does not come back");
        tokio::time::sleep(PAUSE).await;
    }
    server.stop().await;
}
