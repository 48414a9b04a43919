//! The clocks of this machine and of Postgres.

use std::time::Duration;

use sqlx::Executor;
use tokio::time::Instant;

use crate::support::{TestDatabase, TestServer};

/// The longest interval between two comparisons of the clocks.
const NOTICED: Duration = Duration::from_secs(30);

/// From now on the clock of Postgres is off by this many seconds.
async fn turn(database: &TestDatabase, seconds: i64) {
    let turned = format!(
        "create or replace function public.clock_timestamp() returns timestamptz language sql volatile
             as $$ select pg_catalog.clock_timestamp() + make_interval(secs => {seconds}) $$"
    );
    database.connect().await.execute(sqlx::AssertSqlSafe(turned)).await.unwrap();
}

/// A database in which that function precedes the built-in one.
async fn with_clock() -> TestDatabase {
    let database = TestDatabase::create().await;
    let path =
        "do $$ begin execute format('alter database %I set search_path = public, pg_catalog', current_database());
                end $$";
    database.connect().await.execute(path).await.unwrap();
    database
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_apart_does_not_start() {
    let database = with_clock().await;
    for (seconds, way) in [(-3600, "ahead of"), (3600, "behind")] {
        turn(&database, seconds).await;
        let why = TestServer::refused(&database, &[]).await;
        assert!(why.contains(&format!("s {way} that of Postgres")) && why.contains("Fix: "), "{why}");
    }
    turn(&database, 2).await;
    TestServer::start_at_url(&database.url, &[]).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_entry_is_dated_more_than_a_minute_beyond_postgres() {
    let database = with_clock().await;
    turn(&database, 0).await;
    let server = TestServer::start_at_url(&database.url, &[]).await;
    let alice = server.person("alice").await;
    // As if this machine's clock jumped an hour ahead.
    turn(&database, -3600).await;
    let since = Instant::now();
    loop {
        let stream = alice.create_convo().await.unwrap();
        let sent = alice.send(&stream, b"when").await.unwrap();
        let entries = alice.entries(&stream, 0).await.unwrap();
        let told = entries.iter().find(|entry| entry.seq == sent.seq).unwrap().time.as_str().to_owned();
        let told = chrono::DateTime::parse_from_rfc3339(&told).unwrap();
        let ahead_s = (told.to_utc() - rookery::types::Clock::System.now().to_datetime()).num_seconds() + 3600;
        if ahead_s <= 61 {
            break;
        }
        assert!(since.elapsed() < NOTICED, "entries are still {ahead_s} s beyond Postgres");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    server.stop().await;
}
