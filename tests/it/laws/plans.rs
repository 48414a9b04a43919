//! Statements of the hot paths read what they need, whatever the planner knows of the tables.

use std::time::Duration;

use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery_client::{EventCursor, Feed, Received};

use crate::support::{TestServer, conversation, write_messages};

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

/// Conversations of one reader, and the messages of each.
const CONVERSATIONS: usize = 30;
const PAST: usize = 100;
/// Rows of `entry` that a backfill may read for each event: the key and the entry, and a share for looking ahead.
const ROWS_PER_EVENT: i64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_reads_few_rows_for_each_event() {
    // One connection, whose counts the last statement reports.
    let server = TestServer::start_with(&[("DATABASE_POOL", "1")]).await;
    let reader = server.person("reader").await;
    let mut database = server.database.connect().await;
    for _ in 0..CONVERSATIONS {
        let stream = reader.create_convo().await.unwrap();
        write_messages(&mut database, &stream, reader.did(), PAST, b"the past").await;
    }
    server.settled().await;
    let rows = async || {
        tokio::time::sleep(REPORTED).await;
        reader.query::<ListEvents>(&Params { cursor: None, limit: 1 }).await.unwrap();
        let rows = "select (coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint from pg_stat_user_tables where relname = 'entry'";
        let mut database = server.database.connect().await;
        sqlx::query_scalar::<_, i64>(rows).fetch_one(&mut database).await.unwrap()
    };
    let before = rows().await;
    let mut feed = Feed::new(&reader, Some(EventCursor::oldest()));
    let mut messages = 0;
    while messages < CONVERSATIONS * PAST {
        if let Received::Event(event) = feed.next().await.unwrap() {
            messages += usize::from(event.kind == "#message");
        }
    }
    drop(feed);
    let read = rows().await - before;
    let most = ROWS_PER_EVENT * i64::try_from(messages).unwrap();
    assert!(read > i64::try_from(messages).unwrap(), "the counts were reported");
    assert!(read < most, "{messages} messages were read from {read} rows");
    server.stop().await;
}
