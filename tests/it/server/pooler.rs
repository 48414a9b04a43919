//! A server behind PgBouncer: `DATABASE_URL` leads through a pooler, `DATABASE_DIRECT_URL` to Postgres itself.

use std::sync::Arc;

use rookery_client::{Feed, Received};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::{PgBouncer, TestDatabase, TestServer, at_once, conversation};

const FORGETS: &str = "the pooler does not keep prepared statements: PgBouncer 1.21 or newer with \
                       max_prepared_statements > 0 is needed";

async fn refused(database: &TestDatabase, pooler: &PgBouncer) -> String {
    TestServer::refused(database, &[("DATABASE_URL", &pooler.url()), ("DATABASE_DIRECT_URL", &database.url)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_forgets_statements_is_refused() {
    let database = TestDatabase::create().await;
    let pooler = PgBouncer::start(&database.url, 0).await;
    assert!(!pooler.keeps_statements());
    let reason = refused(&database, &pooler).await;
    assert!(reason.contains(FORGETS) && reason.contains("Fix: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_works_through_a_pooler_that_keeps_statements() {
    let database = TestDatabase::create().await;
    let pooler = PgBouncer::start(&database.url, 200).await;
    let reason = refused(&database, &pooler).await;
    if !pooler.keeps_statements() {
        assert!(reason.contains(FORGETS), "{reason}");
        return;
    }

    // The role lacks the time limits; the refusal shows the statements that set them.
    let (_, rest) = reason.split_once("Fix: run as the owner of the database: ").expect(&reason);
    let (statements, _) = rest.split_once("; then let the pooler reconnect").expect(&reason);
    assert!(statements.contains("statement_timeout TO '10s'") || statements.contains("statement_timeout = '10s'"));
    database.connect().await.execute(AssertSqlSafe(statements.to_owned())).await.unwrap();
    drop(pooler);
    let pooler = PgBouncer::start(&database.url, 200).await;

    let settings = [("DATABASE_URL", &*pooler.url()), ("DATABASE_DIRECT_URL", &*database.url), ("DATABASE_POOL", "40")];
    let server = TestServer::start_with(&settings).await;
    let (stream, people) = conversation(&server, 4).await;
    let mut feed = Feed::new(&people[1], None);
    feed.connect().await.unwrap();
    let sending = people.iter().map(|person| {
        let (stream, person) = (stream.clone(), Arc::clone(person));
        async move {
            let mut last = 0;
            for number in 0..25 {
                last = person.send(&stream, format!("message {number}").as_bytes()).await.unwrap().seq;
                person.entries(&stream, 0).await.unwrap();
            }
            last
        }
    });
    let last = at_once(sending).await.into_iter().max().unwrap();
    while !matches!(feed.next().await.unwrap(), Received::Event(event) if event.seq == last) {}

    // Reads, writes and workers share the sessions of the pooler: 34 of the 40 connections.
    let mut connection = database.connect().await;
    let sessions: i64 = sqlx::query_scalar("select count(*) from pg_stat_activity where datname = current_database()")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let direct = 5 + 1 + 4 + 1;
    assert!(sessions <= i64::from(PgBouncer::sessions()) + direct, "{sessions} sessions");
    drop(feed);
    server.stop().await;
}
