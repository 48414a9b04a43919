//! A replica through which the log does not flow says so, and says when it does again.

use std::time::{Duration, Instant};

use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::types::Clock;
use rookery_client::Feed;
use serde_json::Value;
use sqlx::Connection;

use crate::support::{TestServer, Written, conversation};

const EVERY_SECOND: (&str, &str) = ("CANARY_SECONDS", "1");
/// Three periods of a second, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

async fn until_ready(server: &TestServer, wanted: u16) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, report) = server.ready().await;
        if status == wanted {
            return report;
        }
        assert!(Instant::now() < until, "{report}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn count(server: &TestServer, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&mut server.database.connect().await).await.unwrap()
}

async fn until_canaries(server: &TestServer, query: &'static str, least: i64) {
    let until = Instant::now() + PATIENCE;
    while count(server, query).await < least {
        assert!(Instant::now() < until, "no canary");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The line of the log that names the writer which holds the readers back.
async fn until_named(written: &Written, pid: i32) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let (told, pid) = (written.text(), pid.to_string());
        let named = told.lines().find(|line| line.contains("holds back every reader") && line.contains(&pid));
        if let Some(line) = named {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "the oldest writer is not named");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// On one thread, so that all that the server says is heard here.
#[tokio::test]
async fn an_open_writer_makes_the_replica_unready_until_it_ends_whether_anybody_listens_or_not() {
    let written = Written::default();
    let _listening = written.listen();
    let server = TestServer::start_secluded(&[EVERY_SECOND]).await;
    let (stream, people) = conversation(&server, 2).await;
    for listening in [false, true] {
        let mut feed = Feed::new(&people[1], None);
        if listening {
            feed.connect().await.unwrap();
        }
        let report = until_ready(&server, 200).await;
        assert_eq!((&report["canary"], &report["reason"]), (&"ok".into(), &Value::Null));

        let mut writer = server.database.connect().await;
        sqlx::query("set application_name = 'a forgetful program'").execute(&mut writer).await.unwrap();
        let mut tx = writer.begin().await.unwrap();
        let open = "select pg_backend_pid(), pg_current_xact_id()::text as not_this";
        let pid: i32 = sqlx::query_scalar(open).fetch_one(&mut *tx).await.unwrap();
        let report = until_ready(&server, 503).await;
        assert_eq!((&report["status"], &report["canary"]), (&"unavailable".into(), &"stale".into()));
        assert_eq!((&report["reason"], &report["database"]), (&"CanaryStale".into(), &"ok".into()));
        // Whoever calls in spite of it is served: what is written is durable.
        people[0].send(&stream, b"still here").await.unwrap();
        // Said soon after readiness has turned, and only as long as there is somebody to name.
        let line = until_named(&written, pid).await;
        tx.rollback().await.unwrap();
        until_ready(&server, 200).await;
        assert!(
            line.contains("a forgetful program") && line.contains("rookery_test_") && line.contains("age_s"),
            "{line}"
        );
        assert!(!line.contains("not_this"), "what it runs is not told: {line}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_nobodys_events_and_their_streams_go_after_a_day() {
    const STREAMS: &str = "select count(*) from stream where kind = 9";
    const ENTRIES: &str = "select count(*) from entry where kind = 90";
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[EVERY_SECOND]).await;
    let alice = server.person("alice").await;
    until_canaries(&server, ENTRIES, 2).await;
    let seen = alice.query::<ListEvents>(&Params { cursor: None, limit: 100 }).await.unwrap();
    assert!(seen.events.iter().all(|event| event.kind != "#canary"));
    assert_eq!(count(&server, STREAMS).await, 1);

    clock.advance_ms(3 * DAY_MS);
    until_canaries(&server, STREAMS, 2).await;
    server.settled().await;
    let swept = server.server().services().log.sweep().await.unwrap();
    assert!(swept.rows(rookery::log::Job::Canaries) >= 3, "{swept:?}");
    assert_eq!(count(&server, STREAMS).await, 1);
    let old = "select count(*) from entry e where not exists (select 1 from stream s where s.id = e.stream_id)";
    assert_eq!(count(&server, old).await, 0);
    server.stop().await;
}
