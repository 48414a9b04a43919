//! What is around every answer.

use std::time::Duration;

use http::{Method, header};
use rookery::lexicon::Method as _;
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery_client::Service;
use sqlx::Connection;

use crate::support::{TestServer, conversation, idem, refused};

#[tokio::test]
async fn a_browser_may_ask_every_method_and_send_its_token() {
    let server = TestServer::start().await;
    let paths = super::callers::rules().into_iter().map(|rule| format!("/xrpc/{}", rule.nsid));
    for path in paths.chain(["/.well-known/did.json".to_owned(), "/xrpc/com.example.unknown".to_owned()]) {
        let preflight = server.at(Method::OPTIONS, &path);
        let preflight = preflight
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type,atproto-proxy");
        let answer = preflight.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let allowed = answer.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS].to_str().unwrap().to_lowercase();
        for name in ["authorization", "content-type", "atproto-proxy"] {
            assert!(allowed.contains(name), "{path}: {allowed}");
        }
        let methods = answer.headers()[header::ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap().to_owned();
        assert!(methods.contains("GET") && methods.contains("POST"), "{path}: {methods}");
    }
    server.stop().await;
}

#[tokio::test]
async fn every_answer_has_its_id_the_version_and_the_permission_to_read_it() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let long = vec![b' '; 262_145];
    let (ack, convos) = ("/xrpc/blue.catbird.mls.ackWelcome", "/xrpc/blue.catbird.mls.getConvos");
    let token = |nsid: &str| format!("Bearer {}", alice.token(nsid));
    let json = "application/json";
    let mut ids = std::collections::BTreeSet::new();
    for (what, expected, request) in [
        ("200", 200, server.at(Method::GET, convos).header("authorization", token("blue.catbird.mls.getConvos"))),
        ("a document", 200, server.at(Method::GET, "/.well-known/did.json")),
        ("400", 400, server.at(Method::GET, &format!("{convos}?limit=0"))),
        ("another verb", 400, server.at(Method::POST, convos)),
        ("401", 401, server.at(Method::GET, convos)),
        ("404", 404, server.at(Method::GET, "/nothing")),
        (
            "413",
            413,
            server
                .at(Method::POST, ack)
                .header("content-type", json)
                .header("authorization", token("blue.catbird.mls.ackWelcome"))
                .body(long),
        ),
        ("426", 426, server.at(Method::GET, "/xrpc/blue.catbird.event.subscribe")),
        ("501", 501, server.at(Method::GET, "/xrpc/com.example.unknown")),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{what}");
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{what}");
        assert_eq!(answer.headers()["x-protocol-version"], "1", "{what}");
        let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap().to_lowercase();
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{what}: {exposed}");
        assert!(ids.insert(answer.headers()["x-request-id"].to_str().unwrap().to_owned()), "{what}: an id of its own");
    }
    server.stop().await;
}

/// Waiters of this lock hold no transaction id, so that no reader of the cluster waits with them.
#[tokio::test]
async fn a_call_that_takes_too_long_is_told_so_and_may_be_repeated() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let replica = server.replica_with(&[("REQUEST_TIMEOUT_MS", "300")]).await;
    let hurried = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
    let hurried = hurried.with_patience(Duration::ZERO);
    let input =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let token = || Some(people[1].token(LeaveConvo::NSID));

    let mut connection = server.database.connect().await;
    let locked = "select pg_advisory_lock(id) from stream where public_id = $1";
    sqlx::query(locked).bind(&stream).execute(&mut connection).await.unwrap();
    refused(hurried.procedure::<LeaveConvo>(&input, token).await, 504, "TimedOut");
    connection.close().await.unwrap();

    let left = people[1].procedure::<LeaveConvo>(&input).await.unwrap();
    assert_eq!(people[0].convo(&stream).await.unwrap().head.seq, left.seq, "it happened once");
    replica.stop().await.unwrap();
    server.stop().await;
}
