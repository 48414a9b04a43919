//! Concurrent migrations of one schema by several servers.

use std::time::Duration;

use rookery::storage::Storage;
use sqlx::{Connection, Executor};

use crate::support::{TestDatabase, Written, eventually};

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

/// Postgres ends the migration to resolve a deadlock with a session that reads a table of the migration.
#[tokio::test]
async fn a_migration_that_met_a_deadlock_runs_again() {
    let database = TestDatabase::create().await;
    let mut observer = database.connect().await;
    for undo in [
        "alter table account drop column did_gone_at",
        "delete from _sqlx_migrations where version = 202611290303",
        // The migration looks for a deadlock before its wait for a lock times out, and after the other session waits.
        "do $$ begin execute format('alter database %I set deadlock_timeout = ''2s''', current_database()); end $$",
    ] {
        observer.execute(undo).await.unwrap();
    }
    let mut serving = database.connect().await;
    serving.execute("set deadlock_timeout = '1min'").await.unwrap();
    let mut held = serving.begin().await.unwrap();
    held.execute("lock table _sqlx_migrations in share mode").await.unwrap();
    let storage = Storage::connect(&database.url, 1).await.unwrap();
    let contend = async {
        eventually("the migration, which has locked `account`, waits for the list of migrations", async || {
            let waits = "select exists (select 1 from pg_locks where relation = '_sqlx_migrations'::regclass
                and database = (select oid from pg_database where datname = current_database()) and not granted)";
            sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut observer).await.unwrap()
        })
        .await;
        held.execute("select count(*) from account").await.unwrap();
        held.rollback().await.unwrap();
    };
    let (migrated, ()) = tokio::join!(storage.migrate(), contend);
    migrated.unwrap();
    assert!(storage.is_migrated().await.unwrap());
    eventually("Postgres resolved one deadlock", async || {
        let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
        sqlx::query_scalar::<_, i64>(deadlocks).fetch_one(&mut observer).await.unwrap() == 1
    })
    .await;
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
