//! Cursor order is one order for all readers: who pages while others write, on whichever replica, misses nothing and sees
//! nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rookery::lexicon::Method;
use rookery::lexicon::event::defs::Event;
use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::{Draft, EntryKind, Log};
use rookery_client::Service;
use rookery_client::{EventCursor, Feed, Received};
use rookery_testkit::Person;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::support::bytes::with_epoch;
use crate::support::{TestServer, chance, conversation, grow};

/// Who write: half of them as clients, half of them straight into the log.
const WRITERS: usize = 32;
/// Entries that they write before they end, and the time in which any machine writes them.
const ENTRIES: i64 = 200;
const WRITES: Duration = Duration::from_secs(80);
/// A busy machine may say that it is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest pause of a slow writer, with its transaction open.
const SLOW_MS: u64 = 25;
/// Nothing more comes after such a silence.
const QUIET: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_on_two_replicas_see_every_entry_once_and_in_one_order_while_32_writers_commit_and_abort() {
    let mut chance = chance();
    let server = TestServer::start_alone().await;
    let replica = server.replica().await;
    let patient = |url: &str| Arc::new(Service::new(url, TestServer::did()).unwrap().with_patience(PATIENCE));
    let (here, elsewhere) = (patient(&server.url()), patient(&format!("http://{}", replica.address())));
    let logs = [server.server().services().log.clone(), replica.services().log.clone()];
    let (stream, people) = conversation(&server, 3).await;
    let other = second_conversation(&people).await;
    let reader = Arc::clone(&people[0]);
    let accounts = account_streams(&server, &people).await;

    let done = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let (done, chance) = (Arc::clone(&done), StdRng::seed_from_u64(chance.random()));
        writers.push(if number % 2 == 0 {
            let log = logs[number / 2 % 2].clone();
            tokio::spawn(write_to_the_log(log, accounts.clone(), chance, done))
        } else {
            let sender = Arc::clone(&people[number / 2 % 3]);
            let service = Arc::clone(if number / 2 % 2 == 0 { &here } else { &elsewhere });
            let streams = [stream.clone(), other.clone()];
            tokio::spawn(call(sender, service, streams, chance, done))
        });
    }
    let services = [here, elsewhere];
    let pages: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(number, service)| {
            let limit = [3, 50][number];
            tokio::spawn(page_until(Arc::clone(&reader), Arc::clone(service), limit, Arc::clone(&done)))
        })
        .collect();
    let live = tokio::spawn(hear_until_quiet(Arc::clone(&reader), Arc::clone(&done)));

    let (mut database, until) = (server.database.connect().await, Instant::now() + WRITES);
    while sqlx::query_scalar::<_, i64>("select count(*) from entry").fetch_one(&mut database).await.unwrap() < ENTRIES {
        assert!(Instant::now() < until, "the writers write too little");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    done.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    server.settled().await;

    let stored = stored(&server, &reader).await;
    let mut by_stream: BTreeMap<&str, u64> = BTreeMap::new();
    for (stream, seq) in &stored {
        let last = by_stream.insert(stream, *seq).unwrap_or(0);
        assert_eq!(*seq, last + 1, "the order of all is the order of each stream, without holes");
    }
    for pages in pages {
        assert_eq!(pages.await.unwrap(), stored, "a reader that pages sees every entry once, in order");
    }
    assert_eq!(live.await.unwrap(), stored, "so does one that listens");
    replica.stop().await.unwrap();
    server.stop().await;
}

async fn second_conversation(people: &[Arc<Person>]) -> String {
    let stream = people[0].create_convo().await.unwrap();
    for person in &people[1..] {
        person.publish(1, false).await.unwrap();
    }
    grow(people, &stream).await;
    stream
}

/// Rows of the account streams of these people: into those the server itself writes.
async fn account_streams(server: &TestServer, people: &[Arc<Person>]) -> Vec<i64> {
    let dids: Vec<String> = people.iter().map(|person| person.did().to_string()).collect();
    let rows = sqlx::query_scalar("select stream_id from account where did = any($1) order by id").bind(&dids);
    rows.fetch_all(&mut server.database.connect().await).await.unwrap()
}

/// Everything that this account's seats cover, by position.
async fn stored(server: &TestServer, reader: &Person) -> Vec<(String, u64)> {
    let rows = sqlx::query_as::<_, (String, i64)>(
        "select t.public_id, e.seq from entry e join stream t on t.id = e.stream_id
         join seat s on s.stream_id = e.stream_id and e.seq >= s.from_seq
         join account a on a.id = s.account_id and a.did = $1 order by e.pos",
    )
    .bind(reader.did().as_str());
    let rows = rows.fetch_all(&mut server.database.connect().await).await.unwrap();
    rows.into_iter().map(|(stream, seq)| (stream, seq.cast_unsigned())).collect()
}

/// Transactions of any length that end in any way: committed, rolled back, dropped; with savepoints that take
/// transaction ids of their own, rolled back and released.
async fn write_to_the_log(log: Log, streams: Vec<i64>, mut chance: StdRng, done: Arc<AtomicBool>) {
    while !done.load(Ordering::SeqCst) {
        let stream = streams[chance.random_range(0..streams.len())];
        // Older than whoever comes next: the id is taken before the stream is won.
        let mut tx = match log.lock(stream).await {
            Ok(tx) => tx,
            // Outrun again and again, or no connection free: it may be asked again.
            Err(error) => {
                assert!(matches!(error, rookery::log::Error::Busy | rookery::log::Error::Storage(_)), "{error}");
                continue;
            }
        };
        for _ in 0..chance.random_range(1..4) {
            savepoint(tx.conn(), chance.random()).await;
            let server = tx.server().unwrap();
            let draft = Draft { kind: EntryKind::Welcome, epoch: None, body: b"any".to_vec(), identity: None };
            tx.append(&server, draft).await.unwrap();
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..SLOW_MS) / 2)).await;
        }
        match chance.random_range(0..6) {
            0 => tx.rollback().await.unwrap(),
            1 => drop(tx),
            _ => tx.commit().await.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..SLOW_MS))).await;
    }
}

async fn savepoint(conn: &mut rookery::storage::PgConnection, rolled_back: bool) {
    let end = if rolled_back { "rollback to savepoint a" } else { "release savepoint a" };
    for statement in
        ["savepoint a", "update log_origin set base = base where false", "select pg_current_xact_id()", end]
    {
        sqlx::query(statement).execute(&mut *conn).await.unwrap();
    }
}

/// Calls that are taken, calls that are refused, and calls whose connection breaks off anywhere.
async fn call(
    sender: Arc<Person>,
    service: Arc<Service>,
    streams: [String; 2],
    mut chance: StdRng,
    done: Arc<AtomicBool>,
) {
    while !done.load(Ordering::SeqCst) {
        let draft = sender.draft_message(&streams[chance.random_range(0..2)], b"words").await.unwrap();
        let token = || Some(sender.token(SendMessage::NSID));
        match chance.random_range(0..4) {
            0 => {
                let mut refused = draft;
                let epoch = 90 + chance.random_range(0..9);
                refused.ciphertext.0 = with_epoch(&refused.ciphertext.0, epoch);
                let error = service.procedure::<SendMessage>(&refused, token).await.unwrap_err();
                assert!(error.is("FutureEpoch"), "{error}");
            }
            1 => {
                let body = serde_json::to_vec(&draft).unwrap();
                break_off(&service, SendMessage::NSID, &token().unwrap(), &body, chance.random_range(0..8)).await;
            }
            _ => drop(service.procedure::<SendMessage>(&draft, token).await.unwrap()),
        }
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..SLOW_MS))).await;
    }
}

/// Sends a whole request and goes away without waiting for its answer.
async fn break_off(service: &Service, nsid: &str, token: &str, body: &[u8], after_ms: u64) {
    let url = service.url();
    let host = url.trim_start_matches("http://");
    let mut socket = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!(
        "POST /xrpc/{nsid} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
}

/// Pages from the beginning until nobody writes any more and nothing is left.
async fn page_until(
    reader: Arc<Person>,
    service: Arc<Service>,
    limit: u64,
    done: Arc<AtomicBool>,
) -> Vec<(String, u64)> {
    let (mut seen, mut cursor, mut last) = (Vec::new(), "0".to_owned(), 0);
    let mut quiet = None;
    loop {
        let params = Params { cursor: Some(cursor), limit };
        let page = service.query::<ListEvents>(&params, || Some(reader.token(ListEvents::NSID))).await.unwrap();
        for event in &page.events {
            let position: u64 = event.cursor.parse().unwrap();
            assert!(position > last, "cursors rise");
            last = position;
            seen.push(place(event));
        }
        cursor = page.cursor;
        if page.events.is_empty() && done.load(Ordering::SeqCst) {
            // What was committed last may still be behind the fence.
            let since = *quiet.get_or_insert_with(Instant::now);
            if since.elapsed() > QUIET {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        } else if !page.events.is_empty() {
            quiet = None;
        }
    }
}

async fn hear_until_quiet(reader: Arc<Person>, done: Arc<AtomicBool>) -> Vec<(String, u64)> {
    let mut feed = Feed::new(&reader, Some(EventCursor::oldest()));
    let mut heard = Vec::new();
    loop {
        match tokio::time::timeout(QUIET, feed.next()).await {
            Ok(received) => {
                if let Received::Event(event) = received.unwrap() {
                    heard.push(place(&event));
                }
            }
            Err(_) if done.load(Ordering::SeqCst) => return heard,
            Err(_) => {}
        }
    }
}

fn place(event: &Event) -> (String, u64) {
    (event.stream.clone(), event.seq)
}
