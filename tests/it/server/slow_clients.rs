//! Clients that take their time.

use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::RevokeDevice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::TestServer;

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.server().address()).await.unwrap()
}

/// Says one byte after the other; when the server hung up, and what it had said.
async fn drip(mut tcp: TcpStream, text: &[u8], pause: Duration) -> (Duration, String) {
    let started = Instant::now();
    let (mut read, mut said) = (Vec::new(), text.iter());
    loop {
        let next = tokio::time::timeout(pause, tcp.read_buf(&mut read)).await;
        match next {
            Ok(Ok(0) | Err(_)) => return (started.elapsed(), String::from_utf8_lossy(&read).into_owned()),
            Ok(Ok(_)) => {}
            Err(_) => {
                if let Some(byte) = said.next() {
                    // The server may have hung up; the next read says so.
                    drop(tcp.write_all(&[*byte]).await);
                }
            }
        }
        assert!(started.elapsed() < Duration::from_secs(10), "the server waits for ever");
    }
}

const PAUSE: Duration = Duration::from_millis(50);
/// The configured half second, and what a busy machine adds.
const TIME: std::ops::Range<Duration> = Duration::from_millis(450)..Duration::from_secs(3);

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let server = TestServer::start_with(&[("HEADER_TIMEOUT_MS", "500")]).await;
    let endless = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}", "x".repeat(1000));
    for text in ["", "G", "PRI * HTTP/2.0\r\n\r\nS", &endless] {
        let (after, _) = drip(connect(&server).await, text.as_bytes(), PAUSE).await;
        assert!(TIME.contains(&after), "{:?}: {after:?}", &text[..text.len().min(20)]);
    }
    let mut tcp = connect(&server).await;
    tcp.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (after, answer) = drip(tcp, b"", PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 200") && TIME.contains(&after), "{after:?} {answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_head_has_its_greatest_size_and_number_of_headers() {
    let server = TestServer::start().await;
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(70_000));
    for headers in [many, large] {
        let mut tcp = connect(&server).await;
        let head = format!("GET /health/live HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        drop(tcp.write_all(head.as_bytes()).await);
        let (_, answer) = drip(tcp, b"", PAUSE).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_told_so_in_time() {
    let server = TestServer::start_with(&[("REQUEST_TIMEOUT_MS", "500")]).await;
    let alice = server.person("alice").await;
    let nsid = RevokeDevice::NSID;
    // A header that asks for another protocol changes nothing: Java's client sends one by itself.
    for upgrade in ["", "upgrade: x\r\n", "connection: upgrade\r\nupgrade: websocket\r\n"] {
        let head = format!(
            "POST /xrpc/{nsid} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: 1000\r\n{upgrade}connection: close\r\n\r\n",
            alice.token(nsid)
        );
        let mut tcp = connect(&server).await;
        tcp.write_all(head.as_bytes()).await.unwrap();
        let (after, answer) = drip(tcp, &[b' '; 1000], PAUSE).await;
        assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("TimedOut"), "{upgrade:?}: {answer}");
        assert!(TIME.contains(&after), "{upgrade:?}: {after:?}");
    }
    server.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a client that speaks HTTP/2 without being asked")]
async fn http_2_is_spoken_and_an_idle_connection_is_replaced() {
    let server = TestServer::start_with(&[("HEADER_TIMEOUT_MS", "300")]).await;
    rookery::identity::http::install_crypto_provider();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for _ in 0..2 {
        let answer = client.get(format!("{}/health/live", server.url())).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        // Beyond the time for a head the server closes the connection, and the client opens another.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    server.stop().await;
}

/// An HTTP/2 client with this window for each answer, and its connection, which ends with the server's end.
async fn http_2(server: &TestServer, window_bytes: u32) -> (h2::client::SendRequest<bytes::Bytes>, JoinHandle<()>) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window_bytes);
    let (client, connection) = builder.handshake(connect(server).await).await.unwrap();
    // The kind of its end does not matter.
    let ended = tokio::spawn(async move { drop(connection.await) });
    (client.ready().await.unwrap(), ended)
}

fn get(server: &TestServer, path: &str) -> http::Request<()> {
    http::Request::get(format!("{}{path}", server.url())).body(()).unwrap()
}

#[tokio::test]
async fn an_idle_http_2_connection_ends_in_the_time_of_a_head() {
    let server = TestServer::start_with(&[("HEADER_TIMEOUT_MS", "500")]).await;
    for requests in [0, 1] {
        let (mut client, ended) = http_2(&server, 65_535).await;
        for _ in 0..requests {
            let (answer, _) = client.send_request(get(&server, "/health/live"), true).unwrap();
            assert_eq!(answer.await.unwrap().status().as_u16(), 200);
        }
        let idle_since = Instant::now();
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the server closes it").unwrap();
        assert!(TIME.contains(&idle_since.elapsed()), "{requests} requests: {:?}", idle_since.elapsed());
    }
    server.stop().await;
}

#[tokio::test]
async fn http_2_answers_that_find_no_window_end_the_connection() {
    // With a window of one byte the protocol takes a small answer whole and keeps what the client has no room for: then no
    // request is open, and the time for a head ends the connection.
    let server = TestServer::start_with(&[("SEND_TIMEOUT_MS", "1500"), ("HEADER_TIMEOUT_MS", "1500")]).await;
    for window_bytes in [0, 1] {
        let (mut client, ended) = http_2(&server, window_bytes).await;
        let mut answers = Vec::new();
        for _ in 0..20 {
            client = client.ready().await.unwrap();
            let (answer, _) = client.send_request(get(&server, "/.well-known/did.json"), true).unwrap();
            answers.push(answer.await.unwrap());
        }
        let asked = Instant::now();
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the server closes it").unwrap();
        assert!(asked.elapsed() < 2 * TIME.end, "{window_bytes}: {:?}", asked.elapsed());
    }
    // A client that reads its answers gets them, whatever their size.
    let (mut client, _ended) = http_2(&server, 100).await;
    let (answer, _) = client.send_request(get(&server, "/.well-known/did.json"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut taken = 0;
    while let Some(part) = body.data().await {
        let bytes = part.unwrap().len();
        taken += bytes;
        body.flow_control().release_capacity(bytes).unwrap();
    }
    assert!(taken > 100, "{taken}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_slower_than_16_kib_a_second_is_refused_by_name() {
    let server = TestServer::start().await;
    for framing in ["content-length: 200000", "transfer-encoding: chunked"] {
        let mut tcp = connect(&server).await;
        let head = format!(
            "POST /xrpc/blue.catbird.account.createPairing HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             {framing}\r\nconnection: close\r\n\r\nc350\r\n"
        );
        tcp.write_all(head.as_bytes()).await.unwrap();
        let (after, answer) = drip(tcp, &[b' '; 200], PAUSE).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("BodyTooSlow"), "{framing}: {answer}");
        assert!(after < Duration::from_secs(7), "the answer came before the request's time-out: {after:?}");
    }
    server.stop().await;
}
