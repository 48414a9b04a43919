//! Statements of the hot paths read what they need, whatever the planner knows of the tables.

use std::time::Duration;

use crate::support::{TestServer, conversation};

/// Streams beside the one that is written: few pages, so that reading all of them looks cheap to the planner.
const STREAMS: i32 = 400;
const MESSAGES: i64 = 60;
/// A backend reports its counts after a statement, at most once a second.
const REPORTED: Duration = Duration::from_millis(1_200);

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_reads_no_stream_but_its_own() {
    let server = TestServer::start_alone().await;
    let mut database = server.database.connect().await;
    // Before anything is written: the planner has no statistics of these rows.
    let streams =
        "insert into stream (public_id, kind, home, term, incarnation, asked_incarnation, head_seq, head_time,
                                       head_hash, genesis, created_at)
                   select 's' || n, 1, 'did:web:elsewhere.example', 1, 1, 1, 1, now(), $2, $3, now()
                   from generate_series(1, $1) n";
    let streams = sqlx::query(streams).bind(STREAMS).bind(vec![7_u8; 32]).bind(vec![7_u8; 150]);
    streams.execute(&mut database).await.unwrap();
    let (stream, people) = conversation(&server, 2).await;
    let scans = "select seq_scan from pg_stat_user_tables where relname = 'stream'";
    let (mut before, mut after) = (0, 0);
    for count in [&mut before, &mut after] {
        for _ in 0..MESSAGES {
            people[0].send(&stream, b"hello").await.unwrap();
        }
        tokio::time::sleep(REPORTED).await;
        people[1].send(&stream, b"the writer's connection reports").await.unwrap();
        let mut reader = server.database.connect().await;
        *count = sqlx::query_scalar::<_, i64>(scans).fetch_one(&mut reader).await.unwrap();
    }
    let scanned = after - before;
    assert!(scanned < MESSAGES / 2, "{MESSAGES} messages read all streams {scanned} times");
    server.stop().await;
}
