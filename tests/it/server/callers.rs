//! Who may call what: every method refuses whoever its rule does not name, before anything else about the call.

use rookery::cli::demo::Person;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::{Kind, schema};
use rookery::xrpc::Rule;
use serde_json::Value;

use crate::support::{Request, TestServer};

/// Every method that answers over HTTP, and looks at a token.
fn rules() -> Vec<Rule> {
    let rules = rookery::api::api().rules().into_iter();
    rules.filter(|rule| rule.kind != Kind::Subscription && rule.caller != "Anyone").collect()
}

/// A call as the lexicon's first example shows it.
fn example(server: &TestServer, rule: Rule) -> Request {
    let example = schema::examples(rule.nsid).remove(0);
    let request = server.raw(rule.nsid, &super::examples::query(example.params.as_ref()));
    if rule.kind == Kind::Procedure { request.json(&example.input.unwrap_or(Value::Null)) } else { request }
}

fn device_token(person: &Person, rule: Rule) -> String {
    person.token(rule.nsid)
}

#[tokio::test]
async fn every_method_of_the_lexicons_is_mounted_with_a_rule() {
    let mut mounted: Vec<&str> = rookery::api::api().rules().iter().map(|rule| rule.nsid).collect();
    mounted.sort_unstable();
    let declared: Vec<&str> = schema::methods().map(|(nsid, ..)| nsid).collect();
    assert_eq!(mounted, declared);
}

#[tokio::test]
async fn without_a_token_every_method_asks_for_one() {
    let server = TestServer::start().await;
    for rule in rules() {
        let answer = example(&server, rule).send().await;
        assert_eq!(answer.outcome(), (401, "AuthenticationRequired"), "{}", rule.nsid);
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"AuthenticationRequired\"");
        let basic = example(&server, rule).header(http::header::AUTHORIZATION, "Basic YTpi").send().await;
        assert_eq!(basic.outcome(), (401, "AuthenticationRequired"), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_of_the_wrong_kind_is_refused_by_every_method() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    for rule in rules() {
        let token = match rule.caller {
            "Device" => alice.service_token(rule.nsid),
            "Account" => device_token(&alice, rule),
            "Account or Device" => continue,
            other => panic!("{}: a rule without a test: {other}", rule.nsid),
        };
        let answer = example(&server, rule).token(&token).send().await;
        assert_eq!(answer.outcome(), (401, "BadJwtType"), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_one_call_of_one_method() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    for rule in rules() {
        let token = |nsid| if rule.caller == "Account" { alice.service_token(nsid) } else { alice.token(nsid) };
        let other = token("blue.catbird.mls.somethingElse");
        let answer = example(&server, rule).token(&other).send().await;
        assert_eq!(answer.outcome(), (401, "BadJwtLexiconMethod"), "{}", rule.nsid);

        let once = token(rule.nsid);
        let first = example(&server, rule).token(&once).send().await;
        assert_ne!(first.status, 401, "{}: {}", rule.nsid, first.body);
        let again = example(&server, rule).token(&once).send().await;
        assert_eq!(again.outcome(), (401, "ReplayedToken"), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_nobody_registered_or_that_was_revoked_is_refused_by_every_method() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let unknown = Person::new("unknown", server.account(), server.service()).unwrap();
    // Bob's device under Alice's name.
    let device = bob.device().to_string();
    bob.procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    for rule in rules().into_iter().filter(|rule| rule.caller != "Account") {
        let answer = example(&server, rule).token(&device_token(&unknown, rule)).send().await;
        assert_eq!(answer.outcome(), (401, "DeviceUnknown"), "{}", rule.nsid);
        let answer = example(&server, rule).token(&device_token(&bob, rule)).send().await;
        assert_eq!(answer.outcome(), (401, "DeviceRevoked"), "{}", rule.nsid);
        let answer = example(&server, rule).token(&device_token(&alice, rule)).send().await;
        assert_ne!(answer.status, 401, "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn two_tokens_a_broken_one_and_a_forged_one_are_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let nsid = "blue.catbird.mls.getConvos";
    let call = || server.raw(nsid, "");
    let good = alice.token(nsid);
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (_, bobs) = bob.token(nsid).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for (token, error) in [
        ("a.b.c".to_owned(), "BadJwt"),
        (head.to_owned(), "BadJwt"),
        (format!("{head}."), "BadJwtSignature"),
        (format!("{head}.{bobs}"), "BadJwtSignature"),
    ] {
        assert_eq!(call().token(&token).send().await.outcome(), (401, error), "{token}");
    }
    assert_eq!(call().token(&good).token(&bob.token(nsid)).send().await.outcome(), (401, "BadJwt"));
    assert_eq!(call().token(&format!("{head}.{signature}")).send().await.status, 200, "a refusal uses up nothing");
    server.stop().await;
}
