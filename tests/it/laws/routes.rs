//! Law: around every route stand its limits of bytes, of time and of number, its line in the log, and what a browser
//! needs to ask it.
//!
//! Everything is seen from outside. The walk is over what the server says it serves (`Server::paths`), with and without a
//! slash at the end, and over what is not there; that nothing is served beside that list is a house rule (tests/tidy.rs).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, Method, header};
use rookery::identity::{Curve, DEVICE_TOKEN_HEADER};
use rookery::lexicon::account::create_pairing::CreatePairing;
use rookery::lexicon::server::describe::Describe;
use rookery::lexicon::{Kind, Method as _};
use rookery::types::Clock;
use rookery::xrpc::{Class, Rule};
use rookery_testkit::Person;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::account::create_pairing::waiting;
use crate::server::callers::rules;
use crate::server::examples::example_of;
use crate::support::{AccountToken, Stalling, TestDatabase, TestServer, Written};

/// What a test says it comes from, and the server believes it.
const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A path that is asked for, by the verb that it is for.
#[derive(Clone, Debug)]
struct Route {
    verb: Method,
    path: String,
    rule: Option<Rule>,
}

/// Every path that is served, with and without a slash at the end, and some that are not.
fn walk(server: &TestServer) -> Vec<Route> {
    let rules: BTreeMap<String, Rule> =
        rules().into_iter().map(|rule| (format!("/xrpc/{}", rule.nsid), rule)).collect();
    let absent = ["/xrpc/com.example.unknown", "/xrpc/a b", "/xrpc", "/nothing", "/health/nothing"].map(str::to_owned);
    let paths: Vec<String> = server.server().paths().iter().cloned().chain(absent).collect();
    assert!(paths.len() > rules.len() + 5, "{paths:?}");
    let route = |path: &String, rule: Option<Rule>| {
        let verb = if rule.is_some_and(|rule| rule.kind == Kind::Procedure) { Method::POST } else { Method::GET };
        let path = path.replace(' ', "%20");
        let forms = if path == "/" { vec![path] } else { vec![format!("{path}/"), path] };
        forms.into_iter().map(move |path| Route { verb: verb.clone(), path, rule })
    };
    let walk: Vec<Route> = paths.iter().flat_map(|path| route(path, rules.get(path).copied())).collect();
    for (path, rule) in &rules {
        assert!(walk.iter().any(|route| route.path == *path), "{path} is mounted and not served: {}", rule.caller);
    }
    walk
}

async fn open() -> (TestServer, std::sync::Arc<Person>) {
    TestServer::start_with_operator().await
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// On one thread, so that all that the server does is heard here.
#[tokio::test]
async fn every_route_writes_one_line_for_a_request_under_the_id_that_its_answer_has() {
    let written = Written::default();
    let _listening = written.listen();
    let (server, _) = open().await;
    for route in walk(&server) {
        let answer = server.at(route.verb.clone(), &route.path).send().await.unwrap();
        let id = text(answer.headers(), "x-request-id").to_owned();
        assert_eq!(id.len(), 16, "{route:?} has no id");
        assert_eq!(text(answer.headers(), "x-protocol-version"), "1", "{route:?}");
        let log = written.text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"answered\"") && line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{route:?}: lines of request {id}");
        let status = format!("\"status\":{}", answer.status().as_u16());
        assert!(lines[0].contains(&status) && lines[0].contains("duration_us"), "{route:?}: {}", lines[0]);
        // Without a proof the line names a hashed address, and no account.
        assert!(lines[0].contains("\"caller\":\"\"") && !lines[0].contains("127.0.0.1"), "{}", lines[0]);
        assert!(!lines[0].contains("\"address\":\"\""), "{route:?}: {}", lines[0]);
    }
    server.stop().await;
}

/// Requests of pages and monitoring, besides ours.
const ASKED: [&str; 9] = [
    "authorization",
    "content-type",
    "x-atproto-device-token",
    "traceparent",
    "baggage",
    "sentry-trace",
    "cache-control",
    "last-event-id",
    "x-whatever",
];

#[tokio::test]
async fn every_route_may_be_asked_by_a_browser_which_may_read_the_limits() {
    let (server, _) = open().await;
    for route in walk(&server) {
        let preflight = server
            .at(Method::OPTIONS, &route.path)
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, route.verb.as_str())
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, ASKED.join(","));
        let answer = preflight.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{route:?}");
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), "*", "{route:?}");
        let allowed = text(answer.headers(), "access-control-allow-headers").to_lowercase();
        let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
        assert!(ASKED.iter().all(|asked| allowed.contains(asked)), "{route:?}: {allowed:?}");
        assert!(text(answer.headers(), "access-control-allow-methods").contains(route.verb.as_str()), "{route:?}");

        let answer = server.at(route.verb.clone(), &route.path).header(header::ORIGIN, "https://app.example");
        let answer = answer.send().await.unwrap();
        assert_eq!(text(answer.headers(), "access-control-allow-origin"), "*", "{route:?}");
        let exposed = text(answer.headers(), "access-control-expose-headers").to_lowercase();
        for name in ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "ratelimit-policy", "retry-after"] {
            assert!(exposed.split(',').any(|exposed| exposed.trim() == name), "{route:?}: {exposed}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_route_has_a_limit_of_number_for_those_who_prove_nothing() {
    let clock = Clock::manual(Clock::System.now());
    let operators = ("OPERATOR_DIDS", "did:web:operator.example");
    let rates = [("RATE_OPEN", "2/60"), ("RATE_FAILURE", "2/60")];
    let settings = [vec![TRUSTED, operators], rates.to_vec()].concat();
    let server = TestServer::start_at(clock.clone(), &settings).await;
    for (number, route) in walk(&server).into_iter().enumerate() {
        if is_probe(&route) {
            continue;
        }
        // An address of its own for each.
        let from = format!("198.51.{}.{}", number / 250, number % 250 + 1);
        let ask = async || {
            let request = server.at(route.verb.clone(), &route.path).header(FORWARDED_FOR, &from);
            request.send().await.unwrap()
        };
        let now_s = clock.now_seconds();
        for (remaining, full_in_s) in [("1", 30), ("0", 60)] {
            let answer = ask().await;
            let headers = answer.headers();
            assert_ne!(answer.status().as_u16(), 429, "{route:?}");
            assert_eq!(text(headers, "ratelimit-limit"), "2", "{route:?} has no limit");
            assert_eq!(text(headers, "ratelimit-remaining"), remaining, "{route:?}");
            assert_eq!(text(headers, "ratelimit-policy"), "2;w=60", "{route:?}");
            assert_eq!(text(headers, "ratelimit-reset"), (now_s + full_in_s).to_string(), "{route:?}");
            assert_eq!(text(headers, "retry-after"), "", "{route:?}");
        }
        let answer = ask().await;
        let headers = answer.headers().clone();
        assert_eq!(answer.status().as_u16(), 429, "{route:?}");
        assert_eq!((text(&headers, "ratelimit-remaining"), text(&headers, "retry-after")), ("0", "30"), "{route:?}");
        let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"], "RateLimitExceeded", "{route:?}");
    }
    server.stop().await;
}

/// The authentication of a request with that body.
fn proofs(caller: &Person, rule: Rule, body: Option<&[u8]>) -> Vec<(HeaderName, String)> {
    let bearer = |token: String| (header::AUTHORIZATION, format!("Bearer {token}"));
    let proof = body.map(|body| caller.proof(rule.nsid, body));
    if rule.caller != "Account" {
        return vec![bearer(proof.unwrap_or_else(|| caller.token(rule.nsid)))];
    }
    let beside = proof.map(|proof| (DEVICE_TOKEN_HEADER, proof));
    std::iter::once(bearer(caller.service_token(rule.nsid))).chain(beside).collect()
}

fn is_probe(route: &Route) -> bool {
    ["/health", "/health/live", "/health/ready", "/xrpc/_health"].contains(&route.path.as_str())
}

#[tokio::test]
async fn health_probes_are_never_refused() {
    let rates = [("RATE_OPEN", "2/60"), ("RATE_FAILURE", "2/60")];
    let (server, _) = TestServer::start_with_operator_on_with(TestDatabase::create().await, &rates).await;
    for route in walk(&server).into_iter().filter(is_probe) {
        let asked = (0..300).map(|_| server.at(route.verb.clone(), &route.path).send());
        let answers = futures_util::future::join_all(asked).await;
        let statuses: Vec<u16> = answers.into_iter().map(|answer| answer.unwrap().status().as_u16()).collect();
        assert!(statuses.iter().all(|status| *status == 200), "{route:?}: {statuses:?}");
    }
    server.stop().await;
}

/// Numbers that tell the classes apart.
const RATES: [(Class, &str, &str); 8] = [
    (Class::Read, "RATE_READ", "1001/86400"),
    (Class::Write, "RATE_WRITE", "1002/86400"),
    (Class::Message, "RATE_MESSAGE", "1003/86400"),
    (Class::KeyPackage, "RATE_KEY_PACKAGE", "1004/86400"),
    (Class::Account, "RATE_ACCOUNT", "1005/86400"),
    (Class::Subscribe, "RATE_SUBSCRIBE", "1006/86400"),
    (Class::Open, "RATE_OPEN", "1007/86400"),
    (Class::Failure, "RATE_FAILURE", "1008/86400"),
];

#[tokio::test]
async fn every_method_is_counted_once_against_the_account_it_proves_and_with_its_class() {
    let (server, operator) = {
        let database = TestDatabase::create().await;
        let rates: Vec<_> = RATES.iter().map(|(_, name, rate)| (*name, *rate)).collect();
        TestServer::start_with_operator_on_with(database, &rates).await
    };
    let limit_of = |class: Class| {
        let (.., rate) = RATES.iter().find(|(of, ..)| *of == class).unwrap();
        rate.split('/').next().unwrap().to_owned()
    };
    for route in walk(&server).into_iter().filter(|route| route.rule.is_some()) {
        let rule = route.rule.unwrap();
        // A subscription is counted behind its upgrade: tests/it/server/limits.rs; a server by its domain:
        // tests/it/federation/doors.rs.
        if rule.kind == Kind::Subscription || rule.class == Class::Peer {
            continue;
        }
        let alice = server.newcomer("alice", 0).await;
        let caller = if rule.caller == "Operator" { &operator } else { &alice };
        let (query, input) = example_of(rule);
        let body = input.map(|input| input.to_string());
        let mut left = Vec::new();
        for _ in 0..2 {
            let mut request = server.at(route.verb.clone(), &format!("{}{query}", route.path));
            for (name, value) in proofs(caller, rule, body.as_deref().map(str::as_bytes)) {
                request = request.header(name, value);
            }
            let request = match &body {
                Some(body) => request.header("content-type", "application/json").body(body.clone()),
                None => request,
            };
            let answer = request.send().await.unwrap();
            assert_ne!(answer.status().as_u16(), 401, "{route:?}");
            assert_eq!(text(answer.headers(), "ratelimit-limit"), limit_of(rule.class), "{route:?}");
            left.push(text(answer.headers(), "ratelimit-remaining").parse::<i64>().unwrap());
        }
        assert_eq!(left[0] - left[1], 1, "{route:?}: a call counts once");
    }
    server.stop().await;
}

#[test]
fn the_table_of_limits_names_every_method_in_its_class_and_every_default() {
    let document = include_str!("../../../docs/OPERATIONS.md");
    let row = |class: &str| document.lines().find(|line| line.starts_with(&format!("| {class} |"))).unwrap_or_default();
    for rule in rules() {
        let row = row(rule.class.name());
        let method = rule.nsid.trim_start_matches("blue.catbird.");
        let covered = match rule.class {
            Class::Read => row.contains("all other queries") && rule.kind == Kind::Query,
            Class::Write => row.contains("all other procedures") && rule.kind == Kind::Procedure,
            _ => row.contains(&format!("`{method}`")),
        };
        assert!(covered, "{method} is not in the row of class {}", rule.class.name());
    }
    for setting in rookery::config::SETTINGS.iter().filter(|setting| setting.name.starts_with("RATE_")) {
        let rookery::config::Fallback::Is(default) = setting.default else { panic!("{} has no default", setting.name) };
        let (quantity, seconds) = default.split_once('/').unwrap();
        let cells = format!("| {quantity} in {seconds} s | `{}` |", setting.name);
        assert!(document.contains(&cells), "docs/OPERATIONS.md does not say {cells}");
    }
}

/// Bytes that are announced and never sent: whoever waits for them, or keeps room, is found out.
#[tokio::test]
async fn every_route_refuses_a_body_that_no_method_takes_before_it_comes() {
    let (server, operator) = open().await;
    for route in walk(&server) {
        let token = route.rule.map(|rule| operator.token(rule.nsid)).unwrap_or_default();
        for verb in [Method::GET, Method::POST] {
            let head = format!(
                "{verb} {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
                 content-length: 1099511627776\r\nconnection: close\r\n\r\n",
                route.path
            );
            let begun = Instant::now();
            let answer = answer_to(&server, &head, b"").await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{verb} {route:?}: {answer}");
            assert!(answer.contains("PayloadTooLarge"), "{verb} {route:?}: {answer}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{verb} {route:?} waited for the body");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn every_procedure_takes_so_many_bytes_and_not_one_more_however_they_come() {
    let bodies = [("MAX_BODY_BYTES", "16384"), ("MAX_MESSAGE_BYTES", "30000"), ("MAX_COMMIT_BYTES", "60000")];
    let database = TestDatabase::create().await;
    let (server, operator) = TestServer::start_with_operator_on_with(database, &bodies).await;
    let json = |decoded: usize| decoded / 3 * 4 + 64 * 1024;
    for route in walk(&server) {
        // A server's body is read once its signature holds.
        let takes_tokens = |rule: &Rule| rule.kind == Kind::Procedure && rule.class != Class::Peer;
        let Some(rule) = route.rule.filter(takes_tokens) else { continue };
        let limit = match rule.nsid.rsplit('.').next().unwrap() {
            "sendMessage" | "publishKeyPackages" => json(30_000),
            "createConvo" | "addMembers" | "removeMembers" | "importData" => json(60_000),
            _ => 16_384,
        };
        let head = |length: &str, body: &[u8]| {
            let proofs = proofs(&operator, rule, Some(body)).into_iter();
            let proofs = proofs.map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
            format!(
                "POST {} HTTP/1.1\r\nhost: x\r\n{proofs}content-type: application/json\r\n{length}\r\n\
                 connection: close\r\n\r\n",
                route.path
            )
        };
        for (bytes, expected) in [(limit, "HTTP/1.1 400"), (limit + 1, "HTTP/1.1 413")] {
            let body = vec![b' '; bytes];
            let whole = answer_to(&server, &head(&format!("content-length: {bytes}"), &body), &body).await;
            assert!(whole.starts_with(expected), "{route:?} with {bytes} bytes: {whole}");
            let chunk = [format!("{bytes:x}\r\n").as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
            let chunked = answer_to(&server, &head("transfer-encoding: chunked", &body), &chunk).await;
            assert!(chunked.starts_with(expected), "{route:?} with {bytes} bytes in a chunk: {chunked}");
        }
    }
    server.stop().await;
}

async fn answer_to(server: &TestServer, head: &str, body: &[u8]) -> String {
    let mut tcp = TcpStream::connect(server.server().address()).await.unwrap();
    tcp.write_all(head.as_bytes()).await.unwrap();
    // The server may have answered and hung up meanwhile.
    drop(tcp.write_all(body).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), tcp.read_to_end(&mut answer)).await;
    assert!(read.is_ok() || !answer.is_empty(), "nothing was answered to {head}");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Postgres stands still: nothing it was asked is answered, and no connection breaks.
#[tokio::test]
async fn every_route_answers_in_its_time_although_the_database_never_does() {
    const TIME: Duration = Duration::from_secs(2);
    let database = TestDatabase::create().await;
    let wire = Stalling::before(&database).await;
    let operators = ("OPERATOR_DIDS", "did:web:operator.example");
    let time = ("REQUEST_TIMEOUT_MS", "2000");
    let server = TestServer::start_at_url(&wire.url, &[time, operators]).await;
    let alice = server.newcomer("alice", 0).await;
    let routes = walk(&server);
    wire.stand_still();
    // Once without, once with a header that asks for another protocol.
    let twice = routes.iter().flat_map(|route| [(route, ""), (route, "x")]);
    let asked = twice.map(async |(route, upgrade)| {
        let token = match route.rule {
            Some(rule) if rule.caller == "Account" => alice.service_token(rule.nsid),
            Some(rule) => alice.token(rule.nsid),
            None => String::new(),
        };
        let (query, mut input) = route.rule.map(example_of).unwrap_or_default();
        if route.rule.is_some_and(|rule| rule.nsid == CreatePairing::NSID) {
            // The example's signature expired long ago.
            input = Some(serde_json::to_value(waiting(Curve::Ed25519)).unwrap());
        }
        let request = server.at(route.verb.clone(), &format!("{}{query}", route.path)).bearer_auth(token);
        let request = match &input {
            Some(input) => request.header("content-type", "application/json").body(input.to_string()),
            None => request,
        };
        let request = if upgrade.is_empty() { request } else { request.header(header::UPGRADE, upgrade) };
        let begun = Instant::now();
        // Below what the pool, or our own client, would end by itself.
        let answer = tokio::time::timeout(2 * TIME, request.send()).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("{route:?} has no limit of time, with upgrade {upgrade:?}")).unwrap();
        let waited = answer.status().as_u16() == 504;
        assert!(!waited || begun.elapsed() >= TIME, "{route:?} took {:?}", begun.elapsed());
        waited.then(|| route.path.clone())
    });
    let waited: Vec<String> = futures_util::future::join_all(asked).await.into_iter().flatten().collect();
    // Those that asked the database were told so; the others need nobody.
    for path in ["/health", "/health/ready", "/xrpc/blue.catbird.mls.getConvos"] {
        assert!(waited.iter().any(|waited| waited == path), "{path} did not wait for the database: {waited:?}");
    }
    // What the server is, it knows by itself.
    let knows = |rule: Rule| rule.nsid == Describe::NSID;
    let asks = |rule: Rule| rule.kind != Kind::Subscription && rule.class != Class::Peer && !knows(rule);
    let methods = routes.iter().filter(|route| route.rule.is_some_and(asks));
    for route in methods {
        assert!(waited.contains(&route.path), "{route:?} was answered without a database");
    }
    for path in ["/", "/.well-known/did.json", "/health/live", "/nothing"] {
        assert!(!waited.iter().any(|waited| waited == path), "{path} waited for the database");
    }
    wire.flow();
    server.stop().await;
}
