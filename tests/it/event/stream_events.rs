use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::event::stream_events::StreamEvents;
use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery_testkit::Person;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::support::{Events, TestServer, Told, conversation};

async fn listed(person: &Person) -> Vec<Value> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = person.query::<ListEvents>(&list_events::Params { cursor, limit: 100 }).await.unwrap();
        seen.extend(page.events.into_iter().map(|event| serde_json::to_value(event).unwrap()));
        cursor = Some(page.cursor);
        if !page.more {
            return seen;
        }
    }
}

fn named(events: &[Value]) -> Vec<(String, u64)> {
    let name = |event: &Value| (event["stream"].as_str().unwrap().to_owned(), event["seq"].as_u64().unwrap());
    events.iter().map(name).collect()
}

#[tokio::test]
async fn what_happens_comes_at_once_as_list_events_shows_it() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut events = Events::open(&server, &people[1], "").await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert_eq!(events.header("content-encoding"), "identity");
    assert_eq!(events.header("cache-control"), "no-store");
    assert_eq!(events.header("x-accel-buffering"), "no", "nginx hands on what it has");
    assert_eq!(events.header("access-control-allow-origin"), "*");
    assert_eq!(events.next().await, Told::Comment, "the first byte does not wait for an event");

    let sent = people[0].send(&stream, b"hello").await.unwrap();
    let (id, kind, data) = loop {
        let event = events.event().await;
        if event.2["seq"] == sent.seq && event.2["stream"] == stream.as_str() {
            break event;
        }
    };
    server.settled().await;
    let all = listed(&people[1]).await;
    assert_eq!((kind.as_str(), &data), ("#message", all.last().unwrap()));
    assert_eq!(id.as_deref(), data["cursor"].as_str());
    server.stop().await;
}

#[tokio::test]
async fn who_takes_gzip_gets_each_event_at_once_in_it_because_a_pds_would_hold_it_back_otherwise() {
    let server = TestServer::start_with(&[("SSE_MAX_SECONDS", "2")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let request = server.at(http::Method::GET, &format!("/xrpc/{}", StreamEvents::NSID));
    let request = request.bearer_auth(people[1].token(StreamEvents::NSID)).header("accept-encoding", "br, gzip;q=0.1");
    let mut answer = request.send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["content-encoding"]), (200, &"gzip".parse().unwrap()));
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert!(answer.headers().get_all("vary").iter().any(|name| name == "accept-encoding"));

    let mut told = flate2::write::GzDecoder::new(Vec::new());
    let large = "x".repeat(100_000);
    for said in ["hello", &large] {
        let sent = people[0].send(&stream, said.as_bytes()).await.unwrap();
        let event = format!(r#""seq":{}"#, sent.seq);
        let until = Instant::now() + Duration::from_secs(10);
        while !String::from_utf8_lossy(told.get_ref()).contains(&event) {
            assert!(Instant::now() < until, "the event is not readable yet");
            let chunk = answer.chunk().await.unwrap().expect("the answer goes on");
            told.write_all(&chunk).unwrap();
            told.flush().unwrap();
        }
    }
    while let Some(chunk) = answer.chunk().await.unwrap() {
        told.write_all(&chunk).unwrap();
    }
    // Whole: length and checksum are right.
    let told = String::from_utf8(told.finish().unwrap()).unwrap();
    assert!(
        told.starts_with(": events follow\n\n") && told.contains("event: #end\n") && told.ends_with("\n\n"),
        "{told}"
    );
    server.stop().await;
}

#[tokio::test]
async fn an_ephemeral_event_has_no_id() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let second = server.second_device(&people[0]).await;
    let mut events = Events::open(&server, &second, "?kinds=%23cursor").await;
    events.next().await;
    let input = update_cursor::Input { stream: stream.clone(), seq: 2 };
    people[0].procedure::<UpdateCursor>(&input).await.unwrap();
    assert_eq!(events.event().await, (None, "#cursor".to_owned(), json!({ "stream": stream, "seq": 2 })));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_past_into_the_present_nothing_is_missing_and_nothing_comes_twice() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    for number in 0..20 {
        people[0].send(&stream, format!("before {number}").as_bytes()).await.unwrap();
    }
    let writers: Vec<_> = [0, 1]
        .map(|index| {
            let (person, stream) = (Arc::clone(&people[index]), stream.clone());
            tokio::spawn(async move {
                let mut last = 0;
                for number in 0..40 {
                    last = person.send(&stream, format!("during {number}").as_bytes()).await.unwrap().seq;
                }
                last
            })
        })
        .into();
    // Answers that begin at different moments of the writing.
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(Events::open(&server, &people[2], "?cursor=0").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut newest = 0;
    for writer in writers {
        newest = newest.max(writer.await.unwrap());
    }
    server.settled().await;
    let expected = named(&listed(&people[2]).await);
    for events in &mut answers {
        assert_eq!(events.until(&stream, newest).await, expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_resumes_after_its_cursor_and_lets_through_what_its_filter_names() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let other = people[0].create_convo().await.unwrap();
    let first = people[0].send(&stream, b"first").await.unwrap();
    let mut events = Events::open(&server, &people[0], "?cursor=0&kinds=%23message").await;
    let (id, _, data) = events.event().await;
    assert_eq!(data["seq"], first.seq);
    drop(events);
    people[0].send(&other, b"elsewhere").await.unwrap();
    let second = people[0].send(&stream, b"second").await.unwrap();
    let query = format!("?cursor={}&streams={stream}", id.unwrap());
    let mut events = Events::open(&server, &people[0], &query).await;
    assert_eq!(events.event().await.2["seq"], second.seq);
    events.is_silent().await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_ends_itself_before_its_limit_and_the_next_goes_on_from_its_cursor() {
    let server = TestServer::start_with(&[("SSE_MAX_BYTES", "16384")]).await;
    let (stream, people) = conversation(&server, 2).await;
    for _ in 0..20 {
        people[0].send(&stream, &[7; 2000]).await.unwrap();
    }
    // More than an answer may be: it goes alone, and nobody is stuck before it.
    let large = people[0].send(&stream, &vec![7; 30_000]).await.unwrap();
    let last = people[0].send(&stream, b"last").await.unwrap();
    server.settled().await;
    let (mut cursor, mut seen, mut answers) = ("0".to_owned(), Vec::new(), 0);
    while seen.last().is_none_or(|data: &Value| data["seq"] != last.seq || data["stream"] != stream.as_str()) {
        let mut events = Events::open(&server, &people[1], &format!("?cursor={cursor}")).await;
        answers += 1;
        let before = seen.len();
        loop {
            let (id, kind, data) = events.event().await;
            if kind == "#end" {
                assert_eq!(data, json!({ "cursor": id }));
                assert_eq!(events.next().await, Told::End);
                cursor = id.unwrap();
                let alone = seen.len() == before + 1 && seen[before]["seq"] == large.seq;
                assert!(events.bytes <= 16_384 || alone, "{} bytes", events.bytes);
                break;
            }
            seen.push(data);
            if seen.last().unwrap()["seq"] == last.seq && seen.last().unwrap()["stream"] == stream.as_str() {
                break;
            }
        }
    }
    assert_eq!(seen, listed(&people[1]).await);
    assert!(answers > 4, "{answers}");
    server.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives_is_not_cut_off_as_slow_and_ends_by_its_age() {
    let settings = [("SSE_HEARTBEAT_MS", "200"), ("SSE_MAX_SECONDS", "2"), ("REQUEST_TIMEOUT_MS", "500")];
    let server = TestServer::start_with(&settings).await;
    let alice = server.person("alice").await;
    server.settled().await;
    let cursor = listed(&alice).await.last().unwrap()["cursor"].as_str().unwrap().to_owned();
    let (mut comments, started) = (0, Instant::now());
    let mut events = Events::open(&server, &alice, &format!("?cursor={cursor}")).await;
    let end = loop {
        match events.next().await {
            Told::Comment => comments += 1,
            other => break other,
        }
    };
    assert!((5..=12).contains(&comments), "{comments}");
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    let Told::Event { id, kind, data } = end else { panic!("{end:?}") };
    assert_eq!((kind.as_str(), data), ("#end", json!({ "cursor": id })));
    assert!(id.unwrap() >= cursor);
    assert_eq!(events.next().await, Told::End);
    server.stop().await;
}

#[tokio::test]
async fn revoking_a_device_ends_its_answer_within_a_second() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let second = server.second_device(&alice).await;
    let mut revoked = Events::open(&server, &second, "").await;
    let mut stays = Events::open(&server, &alice, "").await;
    revoked.next().await;
    alice
        .procedure::<RevokeDevice>(&revoke_device::Input { device: second.device().to_string(), revocation: None })
        .await
        .unwrap();
    let started = Instant::now();
    let (_, data) = revoked.ends("#error").await;
    assert_eq!(data["error"], "SubscriptionClosed");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let (_, kind, _) = stays.event().await;
    assert_eq!(kind, "#device", "another device hears of it");
    server.stop().await;
}

#[tokio::test]
async fn a_stopping_server_ends_its_answers_with_their_cursor() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let mut events = Events::open(&server, &alice, "?cursor=0&kinds=%23device").await;
    let (id, ..) = events.event().await;
    let started = Instant::now();
    let stopped = tokio::spawn(server.stop());
    let (cursor, _) = events.ends("#end").await;
    assert!(cursor >= id.unwrap());
    stopped.await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(2), "the grace was not needed: {:?}", started.elapsed());
}

#[tokio::test]
async fn what_is_wrong_before_the_first_byte_is_an_ordinary_answer() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let call = |query: &str| server.raw(StreamEvents::NSID, query);
    assert_eq!(call("").send().await.outcome(), (401, "AuthenticationRequired"));
    let named = format!("?device={}", bob.device());
    for (query, status, error) in [
        ("?cursor=9007199254740991", 400, "FutureCursor"),
        ("?cursor=x", 400, "InvalidRequest"),
        ("?cursor=1&cursor=2", 400, "InvalidRequest"),
        (&named, 400, "InvalidRequest"),
    ] {
        let answer = call(query).token(&alice.token(StreamEvents::NSID)).send().await;
        assert_eq!(answer.outcome(), (status, error), "{query}");
    }
    let own = format!("?device={}", alice.device());
    assert_eq!(call(&own).token(&alice.token(StreamEvents::NSID)).send().await.status, 200);
    server.stop().await;
}

/// A client that asks and does not read, with a small window.
async fn asked(server: &TestServer, person: &Person, query: &str) -> tokio::net::TcpStream {
    let address = server.server().address();
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(16_384).unwrap();
    let mut tcp = tcp.connect(address).await.unwrap();
    let (nsid, token) = (StreamEvents::NSID, person.token(StreamEvents::NSID));
    let head = format!(
        "GET /xrpc/{nsid}{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
    );
    tcp.write_all(head.as_bytes()).await.unwrap();
    tcp
}

async fn rest(mut tcp: tokio::net::TcpStream) -> String {
    let mut read = Vec::new();
    // It may be cut off in the middle.
    let _cut_off = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut read)).await.unwrap();
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_lags_too_far_behind_is_told_so() {
    let server = TestServer::start_with(&[("SSE_BUFFER_SIZE", "1")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let slow = asked(&server, &people[1], "?kinds=%23message").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let large = vec![7; 400_000];
    for _ in 0..20 {
        people[0].send(&stream, &large).await.unwrap();
    }
    server.settled().await;
    let text = rest(slow).await;
    let last = text.rsplit("event: #error").next().unwrap();
    assert!(last.contains(r#""error":"ConsumerTooSlow""#), "{} bytes, and then {last:.200}", text.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off() {
    let server = TestServer::start_with(&[("SEND_TIMEOUT_MS", "500")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let large = vec![7; 400_000];
    for _ in 0..20 {
        people[0].send(&stream, &large).await.unwrap();
    }
    server.settled().await;
    let slow = asked(&server, &people[1], "?cursor=0").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let text = rest(slow).await;
    assert!(!text.ends_with("\r\n0\r\n\r\n") && !text.contains("event: #e"), "it was let off in good order");
    server.stop().await;
}
