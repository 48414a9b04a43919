//! A read of the tailer ends where a transaction ends, however many entries wait.

use std::collections::HashSet;
use std::time::Duration;

use rookery::config::SubscriberBuffer;
use rookery::log::{Delivery, Draft, EntryKind, Filter};
use sqlx::Connection;

use crate::support::TestServer;

/// Entries before the creating transaction, whose first entry is the last that one read has room for.
const BEFORE: usize = 2_047;
const PER_TRANSACTION: usize = 1_023;

#[tokio::test(flavor = "multi_thread")]
async fn a_creator_hears_all_of_a_transaction_larger_than_a_read() {
    let server = TestServer::start_secluded(&[]).await;
    let alice = server.person("alice").await;
    server.settled().await;
    let log = server.server().services().log.clone();
    let mut database = server.database.connect().await;
    let (account, device, own): (i64, i64, i64) = sqlx::query_as(
        "select a.id, d.id, a.stream_id from account a join device d on d.account_id = a.id where a.did = $1",
    )
    .bind(alice.did().as_str())
    .fetch_one(&mut database)
    .await
    .unwrap();
    let listener = log.listen(account, device).await.unwrap().unwrap();
    let kinds: HashSet<String> = ["#opened", "#convo", "#membership"].map(str::to_owned).into();
    let filter = Filter { kinds, ..Filter::default() };
    let mut heard = log.subscribe(&listener, filter, SubscriberBuffer { events: 500, bytes: 1 << 20 }).await.unwrap();

    let mut held = database.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id()").execute(&mut *held).await.unwrap();
    let mut left = BEFORE;
    while left > 0 {
        let mut tx = log.lock(own).await.unwrap();
        let by = tx.server().unwrap();
        for _ in 0..left.min(PER_TRANSACTION) {
            let draft = Draft { kind: EntryKind::KeyPackagesLow, epoch: None, body: b"any".to_vec(), identity: None };
            tx.append(&by, draft).await.unwrap();
        }
        tx.commit().await.unwrap();
        left = left.saturating_sub(PER_TRANSACTION);
    }
    let stream = alice.create_convo().await.unwrap();
    held.rollback().await.unwrap();

    for kind in ["#opened", "#convo", "#membership"] {
        let next = tokio::time::timeout(Duration::from_secs(20), heard.next()).await.unwrap();
        match next.unwrap() {
            Delivery::Stored(frame) => {
                assert_eq!((frame.stream.as_str(), frame.kind.name()), (stream.as_str(), kind));
            }
            Delivery::Ephemeral(signal) => panic!("{signal:?}"),
        }
    }
    server.stop().await;
}
