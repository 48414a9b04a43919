//! Readiness follows the progress of this instance's log; a condition common to all instances raises an alarm.

use std::time::{Duration, Instant};

use rookery_client::Feed;
use serde_json::Value;
use sqlx::Connection;

use crate::support::{TestServer, Written, conversation};

/// Time limit, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

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

/// The line of the server's log that contains all these parts.
async fn until_logged(written: &Written, parts: &[&str]) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = written.text();
        if let Some(line) = text.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "no line with {parts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// On one thread, so that the test captures all log lines of the server.
#[tokio::test]
async fn a_held_horizon_raises_an_alarm_and_leaves_readiness() {
    let written = Written::default();
    let _listening = written.listen();
    let server = TestServer::start_secluded(&[("LOG_STALLED_SECONDS", "2")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let mut feed = Feed::new(&people[1], None);
    feed.connect().await.unwrap();

    let mut writer = server.database.connect().await;
    sqlx::query("set application_name = 'a forgetful program'").execute(&mut writer).await.unwrap();
    let mut tx = writer.begin().await.unwrap();
    let open = "select pg_backend_pid(), pg_current_xact_id()::text as not_this";
    let pid: i32 = sqlx::query_scalar(open).fetch_one(&mut *tx).await.unwrap();
    people[0].send(&stream, b"still here").await.unwrap();
    until_logged(&written, &["horizon held back", "age_ms"]).await;
    let line = until_logged(&written, &["holds back every reader", &pid.to_string()]).await;
    assert!(line.contains("a forgetful program") && line.contains("rookery_test_") && line.contains("age_s"), "{line}");
    assert!(!line.contains("not_this"), "the writer's query is in the log: {line}");
    let (status, report) = server.ready().await;
    assert_eq!((status, &report["log"], &report["reason"]), (200, &"ok".into(), &Value::Null));

    tx.rollback().await.unwrap();
    until_logged(&written, &["committed entries are delivered again"]).await;
    assert!(!written.text().contains("log stalled"), "the alarm does not stall this instance");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tailer_that_cannot_read_makes_the_instance_unready() {
    let server = TestServer::start_secluded(&[("LOG_STALLED_SECONDS", "3")]).await;
    until_ready(&server, 200).await;
    let mut locker = server.database.connect().await;
    let mut tx = locker.begin().await.unwrap();
    sqlx::query("lock table entry in access exclusive mode").execute(&mut *tx).await.unwrap();
    let report = until_ready(&server, 503).await;
    assert_eq!((&report["reason"], &report["log"]), (&"TailerStalled".into(), &"tailer stalled".into()));
    assert_eq!(report["database"], "ok");
    tx.rollback().await.unwrap();
    until_ready(&server, 200).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_the_writer_leaves_unanswered_makes_it_unready() {
    let server = TestServer::start_secluded(&[("LOG_STALLED_SECONDS", "3")]).await;
    let (stream, people) = conversation(&server, 2).await;
    until_ready(&server, 200).await;
    let mut locker = server.database.connect().await;
    let mut tx = locker.begin().await.unwrap();
    sqlx::query("select id from stream where public_id = $1 for update").bind(&stream).execute(&mut *tx).await.unwrap();
    let unready = async {
        let report = until_ready(&server, 503).await;
        assert_eq!((&report["reason"], &report["log"]), (&"WriterStalled".into(), &"writer stalled".into()));
        tx.rollback().await.unwrap();
    };
    let (_answered, ()) = tokio::join!(people[0].send(&stream, b"late"), unready);
    until_ready(&server, 200).await;
    server.stop().await;
}
