//! Requests that are not what XRPC says.

use http::{Method, header};
use rookery::lexicon::{Kind, schema};
use serde_json::{Value, json};

use crate::support::{Answer, Request, TestServer};

const ACK: &str = "blue.catbird.mls.ackWelcome";
const CONVOS: &str = "blue.catbird.mls.getConvos";

fn assert_invalid(answer: &Answer, words: &str) {
    assert_eq!(answer.outcome(), (400, "InvalidRequest"), "{words}");
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains(words), "{message:?} does not say {words:?}");
}

#[tokio::test]
async fn a_method_called_by_another_verb_says_which_one_it_wants() {
    // Somebody operates it, so that admin methods are mounted.
    let server = TestServer::start_with(&[("OPERATOR_DIDS", "did:web:operator.example")]).await;
    for (nsid, kind, _) in schema::methods() {
        let (wrong, wanted) = if kind == Kind::Procedure { (Method::GET, "POST") } else { (Method::POST, "GET") };
        for verb in [wrong, Method::PUT, Method::DELETE] {
            assert_invalid(&server.verb(verb, nsid, "").send().await, wanted);
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_method_is_not_implemented_and_what_is_no_name_is_invalid() {
    let server = TestServer::start().await;
    for verb in [Method::GET, Method::POST] {
        for nsid in ["com.example.unknown", "blue.catbird.mls.sendmessage", "blue.catbird.mls.defs"] {
            let answer = server.verb(verb.clone(), nsid, "?a=b").send().await;
            assert_eq!(answer.outcome(), (501, "MethodNotImplemented"), "{nsid}");
        }
        for path in ["", "nonsense", "a..b", "blue.catbird.mls.sendMessage/more", "%00"] {
            assert_invalid(&server.verb(verb.clone(), path, "").send().await, "path");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_slash_at_the_end_of_a_method_is_tolerated() {
    let server = TestServer::start().await;
    let answer = server.at(Method::GET, "/xrpc/blue.catbird.mls.getConvos/").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    server.stop().await;
}

#[tokio::test]
async fn a_body_is_uncompressed_json_of_the_declared_shape() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let call = || server.raw(ACK, "").token(&alice.token(ACK));
    let good = json!({ "id": "1", "accepted": true });
    let text = good.to_string();
    let typed = |kind: &str| call().header(header::CONTENT_TYPE, kind).body(text.clone());
    for kind in ["text/plain", "application/jsonp", "application/cbor", ""] {
        assert_invalid(&typed(kind).send().await, "encoding");
    }
    assert_invalid(&call().body(text.clone()).send().await, "encoding");
    let gzip = typed("application/json").header(header::CONTENT_ENCODING, "gzip");
    assert_invalid(&gzip.send().await, "encoding");
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        assert_eq!(typed(kind).send().await.outcome(), (404, "WelcomeNotFound"), "{kind}");
    }

    let json = |body: &str| call().header(header::CONTENT_TYPE, "application/json").body(body.to_owned());
    for body in ["", "{", "{}{}", "\u{feff}{}", "nonsense", "\"\\ud800\""] {
        assert_invalid(&json(body).send().await, "JSON");
    }
    for body in ["[]", "null", "1", "\"text\""] {
        assert_invalid(&json(body).send().await, "input");
    }
    for (field, value) in [("id", json!(1)), ("accepted", json!("true")), ("accepted", Value::Null), ("id", json!({}))]
    {
        let mut body = good.clone();
        body[field] = value;
        assert_invalid(&call().json(&body).send().await, field);
        body.as_object_mut().unwrap().remove(field);
        assert_invalid(&call().json(&body).send().await, field);
    }
    server.stop().await;
}

#[tokio::test]
async fn what_nobody_knows_is_passed_over() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let body = json!({ "id": "1", "accepted": true, "future": { "a": [1, null] }, "$type": "x" });
    let answer = server.raw(ACK, "?what=ever").token(&alice.token(ACK)).json(&body).send().await;
    assert_eq!(answer.outcome(), (404, "WelcomeNotFound"));
    let answer = server.raw(CONVOS, "?limit=5&future=1&future=2").token(&alice.token(CONVOS)).send().await;
    assert_eq!(answer.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn parameters_are_checked_before_the_caller_and_the_caller_before_the_body() {
    let server = TestServer::start().await;
    assert_invalid(&server.raw(CONVOS, "?limit=0").send().await, "limit");
    let broken = server.raw(ACK, "").header(header::CONTENT_TYPE, "application/json").body("{");
    assert_eq!(broken.send().await.outcome(), (401, "AuthenticationRequired"));
    server.stop().await;
}

#[tokio::test]
async fn a_query_takes_no_body_and_no_parameter_twice() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let call = |query: &str| server.raw(CONVOS, query).token(&alice.token(CONVOS));
    assert_invalid(&call("").body("{}").send().await, "body");
    for query in ["?limit=1&limit=1", "?limit=1&limit=2", "?limit=x", "?limit=-1", "?limit=1e1", "?limit=%00"] {
        assert_invalid(&call(query).send().await, "limit");
    }
    assert_invalid(&call(&format!("?cursor={}", "1".repeat(21))).send().await, "cursor");
    server.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_with_the_limit() {
    let limits = [("MAX_BODY_BYTES", "16384"), ("MAX_MESSAGE_BYTES", "16384"), ("MAX_COMMIT_BYTES", "32768")];
    let server = TestServer::start_with(&limits).await;
    let alice = server.person("alice").await;
    // Decoded bytes as base64, and 64 KiB around them.
    let (message, commit) = (16_384 / 3 * 4 + 65_536, 32_768 / 3 * 4 + 65_536);
    for (nsid, limit) in [
        (ACK, 16_384),
        ("blue.catbird.mls.publishKeyPackage", 16_384),
        ("blue.catbird.mls.sendMessage", message),
        ("blue.catbird.mls.publishKeyPackages", message),
        ("blue.catbird.mls.createConvo", commit),
        ("blue.catbird.mls.addMembers", commit),
        ("blue.catbird.mls.removeMembers", commit),
    ] {
        let call = |bytes: usize| -> Request {
            let request = server.raw(nsid, "").token(&alice.token(nsid));
            request.header(header::CONTENT_TYPE, "application/json").body(vec![b' '; bytes])
        };
        let answer = call(limit + 1).send().await;
        assert_eq!(answer.outcome(), (413, "PayloadTooLarge"), "{nsid}");
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(&limit.to_string()), "{nsid}: {message}");
        assert_invalid(&call(limit).send().await, "JSON");
    }
    server.stop().await;
}
