//! The examples in the lexicons are calls that this server understands.

use rookery::identity::DEVICE_TOKEN_HEADER;
use rookery::lexicon::{Kind, schema};
use rookery::xrpc::Rule;
use serde_json::Value;

use crate::support::{AccountToken, Said, Socket, TestServer};

/// Parameters as a query string.
pub fn query(params: Option<&Value>) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in params.and_then(Value::as_object).into_iter().flatten() {
        for value in value.as_array().unwrap_or(&vec![value.clone()]) {
            pairs.append_pair(name, value.as_str().map_or(&value.to_string(), |text| text));
        }
    }
    format!("?{}", pairs.finish())
}

/// Query and input of the first example.
pub fn example_of(rule: Rule) -> (String, Option<Value>) {
    let example = schema::examples(rule.nsid).remove(0);
    (query(example.params.as_ref()), example.input)
}

/// What the method's input is: of one method bytes as they were made.
pub fn media_type(nsid: &str) -> &'static str {
    let raw = ["blue.catbird.peer.replicate", "blue.catbird.peer.transferHome"];
    if raw.contains(&nsid) { "application/vnd.ipld.dag-cbor" } else { "application/json" }
}

#[tokio::test]
async fn every_example_is_taken_or_refused_by_a_name_of_its_own() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.person("alice").await;
    for rule in super::callers::rules() {
        let examples = schema::examples(rule.nsid);
        assert!(!examples.is_empty(), "{} shows no example", rule.nsid);
        for example in examples {
            let query = query(example.params.as_ref());
            if rule.kind == Kind::Subscription {
                let mut socket = Socket::open(&server, &alice, &query).await;
                if let Ok(Said::Error(error)) =
                    tokio::time::timeout(std::time::Duration::from_millis(200), socket.next()).await
                {
                    assert_eq!(error, "FutureCursor");
                }
                continue;
            }
            let token = match rule.caller {
                "Account" => alice.service_token(rule.nsid),
                "Operator" => operator.token(rule.nsid),
                _ => alice.token(rule.nsid),
            };
            let mut request = server.raw(rule.nsid, &query).token(&token);
            if rule.kind == Kind::Procedure {
                let body = serde_json::to_vec(&example.input.unwrap()).unwrap();
                match rule.caller {
                    "Account" => request = request.header(DEVICE_TOKEN_HEADER, &alice.proof(rule.nsid, &body)),
                    // Of an operator, the token itself is bound to the body.
                    "Operator" => request = server.raw(rule.nsid, &query).token(&operator.proof(rule.nsid, &body)),
                    _ => {}
                }
                request = request.header(http::header::CONTENT_TYPE, media_type(rule.nsid)).body(body);
            }
            let answer = request.send().await;
            let (status, error) = answer.outcome();
            if rule.caller == "Peer" {
                // Past the shape of the parameters; the body is read for who has signed.
                assert_eq!((status, error), (401, "SignatureMissing"), "{}", rule.nsid);
                continue;
            }
            let understood = status < 500 && !["InvalidRequest", "AuthenticationRequired"].contains(&error);
            assert!(understood && status != 401, "{}: {status} {}", rule.nsid, answer.body);
        }
    }
    server.stop().await;
}
