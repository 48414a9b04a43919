//! Clients that take their time.

use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::RevokeDevice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let (nsid, token) = (RevokeDevice::NSID, alice.token(RevokeDevice::NSID));
    let head = format!(
        "POST /xrpc/{nsid} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: 1000\r\nconnection: close\r\n\r\n"
    );
    let mut tcp = connect(&server).await;
    tcp.write_all(head.as_bytes()).await.unwrap();
    let (after, answer) = drip(tcp, &[b' '; 1000], PAUSE).await;
    assert!(answer.starts_with("HTTP/1.1 504") && answer.contains("TimedOut"), "{answer}");
    assert!(TIME.contains(&after), "{after:?}");
    server.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a client that speaks HTTP/2 without being asked")]
async fn http_2_is_spoken_with_who_begins_with_it() {
    let server = TestServer::start_with(&[("HEADER_TIMEOUT_MS", "300")]).await;
    rookery::identity::http::install_crypto_provider();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    for _ in 0..2 {
        let answer = client.get(format!("{}/health/live", server.url())).send().await.unwrap();
        assert_eq!((answer.version(), answer.status().as_u16()), (http::Version::HTTP_2, 200));
        // Beyond the time for a head: the connection stays.
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    server.stop().await;
}
