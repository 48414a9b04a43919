//! Limits of concurrent use for each caller: calls, bytes of bodies, connections.

use std::time::{Duration, Instant};

use http::HeaderName;
use rookery::lexicon::Method;
use rookery::lexicon::mls::create_convo::CreateConvo;
use rookery::lexicon::mls::get_convos::GetConvos;
use rookery::lexicon::mls::update_cursor::UpdateCursor;
use rookery_testkit::Person;
use serde_json::json;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{Answer, Socket, TestServer, conversation, eventually};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

// ---- calls in flight ----

async fn read(server: &TestServer, person: &Person) -> Answer {
    server.raw(GetConvos::NSID, "").token(&person.token(GetConvos::NSID)).send().await
}

async fn write(server: &TestServer, person: &Person, stream: &str) -> Answer {
    let call = server.raw(UpdateCursor::NSID, "").token(&person.token(UpdateCursor::NSID));
    call.json(&json!({ "stream": stream, "seq": 1 })).send().await
}

/// Sends all calls at once, while the database lets none end; answers how many were refused, and when the last refusal
/// came.
async fn refused_at_once(calls: impl Iterator<Item = impl Future<Output = Answer>>, outcomes: &mut Vec<u16>) {
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        if answer.status == 429 {
            assert_eq!(answer.outcome(), (429, "RateLimitExceeded"));
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    outcomes.extend(answers.iter().map(|answer| answer.status));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_has_eight_reads_and_four_writes_in_flight() {
    let settings = [("MAX_READS_IN_FLIGHT", "8"), ("MAX_WRITES_IN_FLIGHT", "4"), ("DATABASE_POOL", "40")];
    let server = TestServer::start_with(&settings).await;
    let (stream, people) = conversation(&server, 2).await;
    let other = server.newcomer("other", 0).await;
    for writes in [false, true] {
        // Both methods read this table, and no authentication does.
        let mut database = server.database.connect().await;
        let mut held = database.begin().await.unwrap();
        sqlx::query("lock table seat in access exclusive mode").execute(&mut *held).await.unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            held.rollback().await.unwrap();
        };
        let (mut outcomes, mut of_another) = (Vec::new(), Vec::new());
        let calls = (0..12).map(async |_| {
            if writes { write(&server, &people[0], &stream).await } else { read(&server, &people[0]).await }
        });
        let another =
            (0..4).map(
                async |_| {
                    if writes { write(&server, &people[1], &stream).await } else { read(&server, &other).await }
                },
            );
        let (calls, another) = (refused_at_once(calls, &mut outcomes), refused_at_once(another, &mut of_another));
        tokio::join!(calls, another, release);
        let count = |outcomes: &[u16], status| outcomes.iter().filter(|outcome| **outcome == status).count();
        let slots = if writes { 4 } else { 8 };
        assert_eq!((count(&outcomes, 200), count(&outcomes, 429)), (slots, 12 - slots), "{outcomes:?}");
        assert_eq!(count(&of_another, 200), 4, "another account has its own budget: {of_another:?}");
    }
    assert_eq!(read(&server, &people[0]).await.status, 200, "slots come back");
    server.stop().await;
}

// ---- bytes of bodies ----

/// Begins a body of `announced` bytes, sends some of them, and keeps the connection.
async fn begin_body(server: &TestServer, person: &Person, announced: usize, sent: usize) -> TcpStream {
    let nsid = CreateConvo::NSID;
    let head = format!(
        "POST /xrpc/{nsid} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {announced}\r\nconnection: close\r\n\r\n",
        person.token(nsid)
    );
    let mut tcp = TcpStream::connect(server.server().address()).await.unwrap();
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp.write_all(&vec![b' '; sent]).await.unwrap();
    tcp
}

async fn answer_of(mut tcp: TcpStream) -> String {
    let mut answer = Vec::new();
    drop(tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut answer)).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_budget_of_bytes_and_small_ones_pass() {
    // 16 steps of 64 KiB, of which 4 are kept for bodies of at most 4 steps.
    let server = TestServer::start_with(&[("MAX_BODIES_BYTES", "1048576")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let large = server.newcomer("large", 0).await;
    let begin_large = async || (Instant::now(), begin_body(&server, &large, 4_000_000, 12 * 65_536).await);
    let (mut begun, mut holding) = begin_large().await;
    // Before the server has read the large body, there is room for a further body, which may leave no room for the
    // large one.
    eventually("a further body is refused", async || {
        if tokio::time::timeout(Duration::from_millis(10), holding.peek(&mut [0])).await.is_ok() {
            (begun, holding) = begin_large().await;
        }
        let refused = answer_of(begin_body(&server, &people[1], 600_000, 600_000).await).await;
        refused.starts_with("HTTP/1.1 503") && refused.contains("Unavailable")
    })
    .await;
    people[0].send(&stream, &vec![7; 30_000]).await.unwrap();
    // The large body sends nothing more: the server ends the call, and its bytes are free again.
    let ended = answer_of(holding).await;
    assert!(ended.starts_with("HTTP/1.1 408"), "{ended}");
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let taken = answer_of(begin_body(&server, &people[1], 600_000, 600_000).await).await;
    assert!(taken.starts_with("HTTP/1.1 400"), "the server read all spaces of an empty document: {taken}");
    server.stop().await;
}

// ---- connections ----

/// A silent connection from that address of this machine.
async fn idle_from(server: &TestServer, address: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server.server().address()).await.unwrap()
}

async fn is_closed(tcp: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(300), tcp.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

async fn closed(connections: &mut [TcpStream]) -> Vec<bool> {
    futures_util::future::join_all(connections.iter_mut().map(is_closed)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_closes_the_oldest_unauthenticated_client() {
    let server = TestServer::start_with(&[("MAX_CONNECTIONS", "64")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let mut socket = Socket::open(&server, &people[0], "?cursor=0&kinds=%23message").await;
    let mut idle = Vec::new();
    for number in 0..100 {
        idle.push(idle_from(&server, &format!("127.0.0.{}", 2 + number % 5)).await);
    }
    let closed = closed(&mut idle).await;
    let ended = closed.iter().filter(|closed| **closed).count();
    assert!((36..=60).contains(&ended), "{ended} of 100 connections were closed");
    assert!(closed[..36].iter().all(|closed| *closed) && !closed[99], "the oldest: {closed:?}");
    // An authenticated connection stays, and a new client connects.
    let sent = people[1].send(&stream, b"through the crowd").await.unwrap();
    assert_eq!(socket.event().await.1["seq"], sent.seq);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_makes_room_among_its_own_connections() {
    let server = TestServer::start_with(&[("MAX_CONNECTIONS_PER_ADDRESS", "10")]).await;
    let mut quiet = idle_from(&server, "127.0.0.3").await;
    let mut idle = Vec::new();
    for _ in 0..25 {
        idle.push(idle_from(&server, "127.0.0.2").await);
    }
    let closed = closed(&mut idle).await;
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 15, "{closed:?}");
    assert!(!is_closed(&mut quiet).await, "another address");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_has_no_limit_and_its_clients_have() {
    let settings = [("MAX_CONNECTIONS_PER_ADDRESS", "3"), ("TRUSTED_PROXIES", "127.0.0.1")];
    let server = TestServer::start_with(&settings).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(idle_from(&server, "127.0.0.1").await);
    }
    assert_eq!(closed(&mut idle).await.iter().filter(|closed| **closed).count(), 0);
    // Three unfinished requests of one client, and a further one.
    let head = "POST /xrpc/blue.catbird.account.createPairing HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                x-forwarded-for: 198.51.100.1\r\ncontent-length: 1000\r\n\r\n";
    for tcp in &mut idle[..3] {
        tcp.write_all(head.as_bytes()).await.unwrap();
    }
    let ask = async |from: &str, path: &str| {
        let request = server.at(http::Method::GET, path).header(FORWARDED_FOR, from);
        request.send().await.unwrap().status().as_u16()
    };
    eventually("the client has its three connections", async || ask("198.51.100.1", "/").await == 429).await;
    assert_eq!(ask("198.51.100.1", "/health/live").await, 200, "health probes");
    assert_eq!(ask("198.51.100.2", "/").await, 200, "another client");
    idle.clear();
    eventually("the client has none any more", async || ask("198.51.100.1", "/").await == 200).await;
    server.stop().await;
}
