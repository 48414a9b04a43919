//! Concurrent migrations of one schema by several servers.

use std::time::Duration;

use rookery::storage::Storage;
use sqlx::Executor;

use crate::support::{TestDatabase, Written};

const LOCK: &str = "select pg_advisory_lock(hashtextextended('migrations of rookery', 0))";
const UNLOCK: &str = "select pg_advisory_unlock(hashtextextended('migrations of rookery', 0))";

/// On one thread, so that the test captures the server's log lines.
#[tokio::test]
async fn a_server_waits_for_a_migration_without_blocking_it() {
    let database = TestDatabase::create().await;
    let mut migrating = database.connect().await;
    migrating.execute(LOCK).await.unwrap();
    let written = Written::default();
    let listening = written.listen();
    let storage = Storage::connect(&database.url, 1).await.unwrap();
    let mut waiting = Box::pin(storage.migrate());
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "another session migrates");

    // It waits for every snapshot of the database.
    let building = async { migrating.execute("create index concurrently probe_idx on account (created_at)").await };
    let built = tokio::select! {
        built = tokio::time::timeout(Duration::from_secs(20), building) => built.expect("no lock blocks the statement"),
        _ = &mut waiting => panic!("the lock is held"),
    };
    built.unwrap();
    migrating.execute(UNLOCK).await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it goes on").unwrap();
    drop(listening);
    let log = written.text();
    let said = log.lines().find(|line| line.contains("waiting for another session to end its migration"));
    assert!(said.is_some_and(|line| line.contains("\"pid\"")), "{log}");
    storage.close();
}

#[tokio::test]
async fn an_index_whose_building_was_interrupted_is_named() {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    connection.execute("create index broken_idx on account (created_at)").await.unwrap();
    let invalid = "update pg_index set indisvalid = false where indexrelid = 'broken_idx'::regclass";
    connection.execute(invalid).await.unwrap();
    let written = Written::default();
    let listening = written.listen();
    let storage = Storage::connect(&database.url, 1).await.unwrap();
    storage.migrate().await.unwrap();
    drop(listening);
    let log = written.text();
    assert!(log.lines().any(|line| line.contains("broken_idx") && line.contains("this index is invalid")), "{log}");
    storage.close();
}
