//! Conveniences of development: what they do, and that production does not start with them.

use std::process::Stdio;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use rookery::config::REFUSED;
use rookery::identity::{Curve, SharedSecret};
use rookery::lexicon::Method as _;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::types::Clock;
use rookery_testkit::{Form, Person};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::{AccountToken, TestServer, open_folder};

/// The binary itself, with everything that a production server needs; it must not come as far as its database.
#[tokio::test]
async fn production_starts_with_nothing_that_is_for_development_and_says_which_and_the_fix() {
    let folder = open_folder();
    let serve = async |settings: &[(&str, &str)]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rookery"));
        command.arg("serve").env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("SERVICE_DID", "did:web:chat.example.com").env("DATA_DIR", folder.path());
        // Nobody listens there: who gets this far was not refused.
        command.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing").env("SERVER_PORT", "0");
        command.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = command.output().await.unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let unrefused = serve(&[("ROOKERY_ENV", "production")]).await;
    assert!(unrefused.contains("DATABASE_URL") && !unrefused.contains("production refuses"), "{unrefused}");
    for row in REFUSED {
        for value in row.examples {
            // What nobody says is production.
            for environment in [&[("ROOKERY_ENV", "production")][..], &[]] {
                let said = serve(&[environment, &[(row.name, *value)]].concat()).await;
                let expected = format!("{} is ", row.name);
                assert!(said.contains(&expected) && said.contains("production refuses it"), "{}: {said}", row.name);
                assert!(said.contains(&format!("Fix: {}", row.fix)), "{}: {said}", row.name);
                assert!(!said.contains("Postgres"), "{} came too far: {said}", row.name);
                assert!(row.name != "JWT_SECRET" || !said.contains(value), "a secret is shown: {said}");
            }
        }
    }
}

const SECRET: &str = "a secret that only developers know";

#[tokio::test]
async fn with_jwt_secret_a_token_of_any_account_is_taken_once_and_without_it_by_nobody() {
    let nsid = ListDevices::NSID;
    let signed_with = |secret: &str, changes: serde_json::Value| {
        let now_s = Clock::System.now_seconds();
        let jti = hex::encode(rand::random::<[u8; 8]>());
        let mut claims = json!({
            "iss": "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "aud": "did:web:rookery.test", "lxm": nsid,
            "iat": now_s, "exp": now_s + 60, "jti": jti,
        });
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        SharedSecret::new(&secret.to_owned().into()).unwrap().sign(&claims)
    };
    let server = TestServer::start_with(&[("JWT_SECRET", SECRET)]).await;
    let call = async |token: &str| server.raw(nsid, "").token(token).send().await;
    let good = signed_with(SECRET, json!({}));
    assert_eq!(call(&good).await.outcome(), (200, ""));
    assert_eq!(call(&good).await.outcome(), (401, "ReplayedToken"));
    let past = Clock::System.now_seconds() - 100;
    for (changes, expected) in [
        (json!({ "aud": "did:web:other.example" }), "BadJwtAudience"),
        (json!({ "lxm": "blue.catbird.mls.getConvos" }), "BadJwtLexiconMethod"),
        (json!({ "iat": past, "exp": past + 60 }), "JwtExpired"),
    ] {
        assert_eq!(call(&signed_with(SECRET, changes)).await.outcome(), (401, expected));
    }
    let forged = signed_with("another secret, of somebody else..", json!({}));
    assert_eq!(call(&forged).await.outcome(), (401, "BadJwtSignature"));
    let alice = server.newcomer("alice", 0).await;
    assert_eq!(call(&alice.service_token(nsid)).await.outcome(), (200, ""), "keys hold beside it");
    server.stop().await;

    let without = TestServer::start().await;
    let refused = without.raw(nsid, "").token(&signed_with(SECRET, json!({}))).send().await;
    assert_eq!(refused.outcome(), (401, "BadJwtAlgorithm"));
    assert!(refused.body["message"].as_str().unwrap().contains("JWT_SECRET"), "{}", refused.body);
    without.stop().await;
}

#[tokio::test]
async fn an_account_whose_name_is_a_port_of_loopback_may_speak_in_development() {
    let server = TestServer::start().await;
    let web = Arc::new(server.directory.web_identity(Curve::P256, Form::Multikey).unwrap());
    assert!(web.did.as_str().starts_with("did:web:localhost%3A"), "{}", web.did.as_str());
    server.directory.add(&web);
    let person = Person::new("on the web", web, server.service()).unwrap();
    assert_eq!(person.register().await.unwrap().state, "certified");
    server.stop().await;
}

// ---- methods of others ----

/// Says what it was asked.
async fn upstream() -> (String, AbortOnDropHandle<()>) {
    async fn echo(request: Request) -> Response {
        let (parts, body) = request.into_parts();
        match parts.uri.path() {
            "/xrpc/com.example.moved" => {
                return (StatusCode::FOUND, [(header::LOCATION, "http://localhost:1/")], "").into_response();
            }
            "/xrpc/com.example.slow" => std::future::pending().await,
            "/xrpc/com.example.drip" => {
                let events = futures_util::stream::unfold(0, async |number: u32| {
                    if number > 0 {
                        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
                    }
                    (number < 3).then(|| (Ok::<_, std::convert::Infallible>(format!("{number}\n")), number + 1))
                });
                return Body::from_stream(events).into_response();
            }
            _ => {}
        }
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let headers: serde_json::Map<_, _> = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
            .collect();
        let said = json!({
            "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
            "body": String::from_utf8_lossy(&body),
        });
        let mut answer = (StatusCode::IM_A_TEAPOT, axum::Json(said)).into_response();
        for (name, value) in [
            ("set-cookie", "a=b"),
            ("x-powered-by", "tests"),
            ("access-control-allow-origin", "https://upstream.example"),
            ("atproto-repo-rev", "3k"),
            ("etag", "\"x\""),
        ] {
            answer.headers_mut().insert(name, value.parse().unwrap());
        }
        answer
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    let router = axum::Router::new().fallback(echo);
    let served = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
    (url, AbortOnDropHandle::new(served))
}

async fn behind(url: &str) -> TestServer {
    let settings = [("ENABLE_DIRECT_XRPC_PROXY", "true"), ("UPSTREAM_XRPC_BASE", url), ("REQUEST_TIMEOUT_MS", "1000")];
    TestServer::start_with(&settings).await
}

#[tokio::test]
async fn a_method_that_is_not_ours_goes_upstream_with_what_it_takes_and_comes_back_with_what_it_may() {
    let (url, _upstream) = upstream().await;
    let server = behind(&url).await;
    let mut sent = HeaderMap::new();
    for (name, value) in [
        ("authorization", "Bearer a.b.c"),
        ("atproto-proxy", "did:web:x.example#y"),
        ("atproto-accept-labelers", "did:plc:x"),
        ("x-atproto-device", "dev_x"),
        ("content-type", "application/json; charset=utf-8"),
        ("cookie", "secret=1"),
        ("x-forwarded-for", "198.51.100.1"),
        ("x-other", "1"),
        ("connection", "x-hop"),
    ] {
        sent.insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    let path = "/xrpc/com.atproto.repo.createRecord?a=1&b=x%20y&b=z";
    let answer = server.at(Method::POST, path).headers(sent).body("{\"x\":1}").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 418);
    let headers = answer.headers().clone();
    assert_eq!((&headers["atproto-repo-rev"], &headers["etag"]), (&"3k".parse().unwrap(), &"\"x\"".parse().unwrap()));
    assert_eq!(headers["access-control-allow-origin"], "*", "the permission is ours");
    assert!(!headers.contains_key("set-cookie") && !headers.contains_key("x-powered-by"), "{headers:?}");
    assert!(headers.contains_key("x-request-id") && headers.contains_key("ratelimit-limit"), "{headers:?}");

    let said: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!((&said["method"], &said["target"], &said["body"]), (&json!("POST"), &json!(path), &json!("{\"x\":1}")));
    for name in ["authorization", "atproto-proxy", "atproto-accept-labelers", "x-atproto-device", "content-type"] {
        assert!(said["headers"][name].is_string(), "{name} is lost: {said}");
    }
    for name in ["cookie", "x-forwarded-for", "x-other", "x-hop"] {
        assert!(said["headers"][name].is_null(), "{name} went along: {said}");
    }
    assert!(said["headers"]["host"].as_str().unwrap().starts_with("localhost:"), "{said}");

    let get = server.at(Method::GET, "/xrpc/app.example.getThing/").send().await.unwrap();
    let said: serde_json::Value = serde_json::from_slice(&get.bytes().await.unwrap()).unwrap();
    assert_eq!((&said["method"], &said["body"]), (&json!("GET"), &json!("")));
    assert!(said["headers"]["transfer-encoding"].is_null(), "a query has no body: {said}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_of_ours_goes_upstream_whether_it_is_served_or_not() {
    let (url, _upstream) = upstream().await;
    let server = behind(&url).await;
    for (verb, path, expected) in [
        (Method::GET, "/xrpc/blue.catbird.mls.getConvos", 401),
        (Method::GET, "/xrpc/blue.catbird.mls.doEverything", 501),
        (Method::POST, "/xrpc/blue.catbird.admin.listAccounts", 501),
        (Method::GET, "/xrpc/BLUE.Catbird.mls.doEverything", 501),
        (Method::GET, "/xrpc/not-a-method", 400),
        (Method::GET, "/xrpc/_health", 200),
        (Method::GET, "/other", 404),
        (Method::PUT, "/xrpc/com.example.other", 400),
    ] {
        let answer = server.at(verb.clone(), path).bearer_auth("a.b.c").send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{verb} {path}");
    }
    server.stop().await;
    // Without the switch nothing goes anywhere.
    let server = TestServer::start_with(&[("UPSTREAM_XRPC_BASE", &url)]).await;
    let answer = server.raw("com.atproto.repo.createRecord", "").send().await;
    assert_eq!(answer.outcome(), (501, "MethodNotImplemented"));
    server.stop().await;
}

#[tokio::test]
async fn an_upstream_that_moves_is_slow_or_is_gone_is_told_and_what_streams_streams() {
    let (url, upstream) = upstream().await;
    let server = behind(&url).await;
    let get = |path: &str| server.at(Method::GET, path).send();
    let moved = get("/xrpc/com.example.moved").await.unwrap();
    assert_eq!((moved.status().as_u16(), moved.headers().contains_key("location")), (302, false));
    assert_eq!(get("/xrpc/com.example.slow").await.unwrap().status().as_u16(), 504);

    let begun = std::time::Instant::now();
    let mut drip = get("/xrpc/com.example.drip").await.unwrap();
    assert_eq!(drip.chunk().await.unwrap().unwrap(), "0\n");
    assert!(begun.elapsed().as_millis() < 350, "the first part came before the last: {:?}", begun.elapsed());
    assert_eq!(drip.text().await.unwrap(), "1\n2\n");
    assert!(begun.elapsed().as_millis() > 1000 - 250, "a stream may take longer than an answer's beginning");

    drop(upstream);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let gone = get("/xrpc/com.example.other").await.unwrap();
    assert_eq!(gone.status().as_u16(), 502);
    server.stop().await;
}
