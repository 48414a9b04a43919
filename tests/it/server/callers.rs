//! By which tokens a caller is proven. Who may call what is the law of the matrix.

use std::sync::Arc;
use std::time::Duration;

use http::header;
use rookery::identity::{DEVICE_HEADER, DEVICE_TOKEN_HEADER, body_hash};
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::mls::get_convos::{self, GetConvos};
use rookery::lexicon::mls::update_cursor::UpdateCursor;
use rookery::lexicon::{Kind, Method, schema};
use rookery::types::Clock;
use rookery::xrpc::Rule;
use rookery_testkit::Person;
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{AccountToken, Answer, Handmade, Request, TestServer};

/// Every method, those for operators included.
pub fn rules() -> Vec<Rule> {
    rookery::api::api().merge(rookery::api::admin::api()).rules()
}

/// Those that look at tokens and answer over HTTP. What servers ask each other looks at none: tests/it/federation/doors.rs.
fn guarded() -> impl Iterator<Item = Rule> {
    rules().into_iter().filter(|rule| rule.kind != Kind::Subscription && !["Anyone", "Peer"].contains(&rule.caller))
}

/// Those for devices alone.
fn for_devices() -> impl Iterator<Item = Rule> {
    guarded().filter(|rule| ["Device", "Device or Ticket"].contains(&rule.caller))
}

/// A call as the lexicon's first example shows it.
fn example(server: &TestServer, rule: Rule) -> Request {
    let example = schema::examples(rule.nsid).remove(0);
    let request = server.raw(rule.nsid, &super::examples::query(example.params.as_ref()));
    if rule.kind == Kind::Procedure { request.json(&example.input.unwrap_or(Value::Null)) } else { request }
}

#[tokio::test]
async fn every_method_of_the_lexicons_is_mounted_with_a_rule() {
    let mut mounted: Vec<&str> = rules().iter().map(|rule| rule.nsid).collect();
    mounted.sort_unstable();
    let declared: Vec<&str> = schema::methods().map(|(nsid, ..)| nsid).collect();
    assert_eq!(mounted, declared);
}

#[tokio::test]
async fn without_operators_there_are_no_methods_for_them() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    for rule in rookery::api::admin::api().rules() {
        let answer = example(&server, rule).token(&alice.token(rule.nsid)).send().await;
        assert_eq!(answer.outcome(), (501, "MethodNotImplemented"), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_shows_no_token_is_asked_for_one() {
    let server = TestServer::start().await;
    let call = || server.raw(GetConvos::NSID, "");
    for request in [call(), call().header(header::AUTHORIZATION, "Basic YTpi")] {
        let answer = request.send().await;
        assert_eq!(answer.outcome(), (401, "AuthenticationRequired"));
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"AuthenticationRequired\"");
    }
    server.stop().await;
}

/// A client that waits as told asks when the server tries the issuer's directory again.
#[tokio::test]
async fn a_document_out_of_reach_is_answered_with_its_wait() {
    let server = TestServer::start_with(&[("PLC_URL", "http://127.0.0.1:9")]).await;
    let account = server.account();
    let token = account.service_token(TestServer::did().as_str(), ListDevices::NSID, Clock::System.now());
    let answer = server.raw(ListDevices::NSID, "").token(&token).send().await;
    assert_eq!((answer.outcome(), answer.header("retry-after")), ((503, "DidUnresolvable"), "5"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_one_call_of_one_method() {
    let (server, operator) = TestServer::start_with_operator().await;
    let alice = server.person("alice").await;
    for rule in guarded() {
        let token = |nsid| match rule.caller {
            "Account" => alice.service_token(nsid),
            "Operator" => operator.token(nsid),
            _ => alice.token(nsid),
        };
        let other = token("blue.catbird.mls.somethingElse");
        let answer = example(&server, rule).token(&other).send().await;
        assert_eq!(answer.outcome(), (401, "BadJwtLexiconMethod"), "{}", rule.nsid);

        let once = token(rule.nsid);
        let first = example(&server, rule).token(&once).send().await;
        // The server reports a token's faults only after it counts the token as used.
        let lacks = ["DeviceProofRequired", "BadJwtBodyHash"].contains(&first.outcome().1);
        assert!(first.status != 401 || lacks, "{}: {}", rule.nsid, first.body);
        let again = example(&server, rule).token(&once).send().await;
        assert_eq!(again.outcome(), (401, "ReplayedToken"), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_device_that_nobody_registered_is_unknown_to_every_method() {
    let server = TestServer::start().await;
    let unknown = Person::new("unknown", server.account(), server.service()).unwrap();
    for rule in guarded().filter(|rule| rule.caller != "Operator") {
        let expected = if rule.caller == "Account" { "BadJwtType" } else { "DeviceUnknown" };
        let answer = example(&server, rule).token(&unknown.token(rule.nsid)).send().await;
        assert_eq!(answer.outcome(), (401, expected), "{}", rule.nsid);
    }
    server.stop().await;
}

#[tokio::test]
async fn two_tokens_a_broken_one_and_a_forged_one_are_refused() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let nsid = GetConvos::NSID;
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

// ---- through a PDS ----

#[tokio::test]
async fn a_service_token_alone_neither_reads_nor_writes_and_with_a_device_s_name_reads() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    for rule in for_devices() {
        let (alone, named) = match rule.kind {
            Kind::Procedure => ("DeviceProofRequired", Some("DeviceProofRequired")),
            _ => ("DeviceRequired", None),
        };
        let call = || example(&server, rule).token(&alice.service_token(rule.nsid));
        assert_eq!(call().send().await.outcome(), (401, alone), "{}", rule.nsid);
        let answer = call().header(DEVICE_HEADER, alice.device().as_str()).send().await;
        match named {
            Some(error) => assert_eq!(answer.outcome(), (401, error), "{}", rule.nsid),
            None => assert_ne!(answer.status, 401, "{}: {}", rule.nsid, answer.body),
        }
    }
    server.stop().await;
}

/// A write of Alice's through her PDS. It fails for want of a conversation, once its caller is proven.
struct Write<'a> {
    server: &'a TestServer,
    alice: &'a Person,
    body: Vec<u8>,
}

const WRITE: &str = UpdateCursor::NSID;
const PROVEN: (u16, &str) = (404, "StreamNotFound");

impl<'a> Write<'a> {
    fn new(server: &'a TestServer, alice: &'a Person) -> Self {
        let input = schema::examples(WRITE).remove(0).input.unwrap();
        Self { server, alice, body: serde_json::to_vec(&input).unwrap() }
    }

    fn request(&self, token: &str) -> Request {
        let request = self.server.raw(WRITE, "").token(token);
        request.header(header::CONTENT_TYPE, "application/json").body(self.body.clone())
    }

    fn through_pds(&self) -> Request {
        self.request(&self.alice.service_token(WRITE))
    }

    async fn with(&self, proof: &str) -> Answer {
        self.through_pds().header(DEVICE_TOKEN_HEADER, proof).send().await
    }
}

#[tokio::test]
async fn a_write_through_a_pds_takes_a_proof_of_a_device_of_the_account_over_these_bytes() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let revoked = server.second_device(&alice).await;
    let device = revoked.device().to_string();
    alice.procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    let unknown = Person::new("unknown", Arc::clone(alice.account()), server.service()).unwrap();
    let write = Write::new(&server, &alice);
    let body = write.body.as_slice();
    for (what, proof, expected) in [
        ("her device's, over these bytes", alice.proof(WRITE, body), PROVEN),
        ("over other bytes", alice.proof(WRITE, b"{}"), (401, "BadJwtBodyHash")),
        ("over no bytes", alice.token(WRITE), (401, "BadJwtBodyHash")),
        ("for another method", alice.proof(GetConvos::NSID, body), (401, "BadJwtLexiconMethod")),
        ("a service token", alice.service_token(WRITE), (401, "BadJwtType")),
        ("no token", "x".to_owned(), (401, "BadJwt")),
        ("an empty one", String::new(), (401, "AuthenticationRequired")),
        ("of another account's device", bob.proof(WRITE, body), (401, "DeviceUnknown")),
        ("of a device that nobody registered", unknown.proof(WRITE, body), (401, "DeviceUnknown")),
        ("of a revoked device", revoked.proof(WRITE, body), (401, "DeviceRevoked")),
    ] {
        assert_eq!(write.with(&proof).await.outcome(), expected, "{what}");
    }

    let proof = || alice.proof(WRITE, body);
    let other = write.through_pds().header(DEVICE_TOKEN_HEADER, &proof()).header(DEVICE_HEADER, bob.device().as_str());
    assert_eq!(other.send().await.outcome(), (401, "AmbiguousCredentials"), "another device's name beside it");
    let own = write.through_pds().header(DEVICE_TOKEN_HEADER, &proof()).header(DEVICE_HEADER, alice.device().as_str());
    assert_eq!(own.send().await.outcome(), PROVEN, "its own name beside it");
    let two = write.through_pds().header(DEVICE_TOKEN_HEADER, &proof()).header(DEVICE_TOKEN_HEADER, &proof());
    assert_eq!(two.send().await.outcome(), (401, "AmbiguousCredentials"), "two proofs");
    let direct = write.request(&proof()).header(DEVICE_TOKEN_HEADER, &proof());
    assert_eq!(direct.send().await.outcome(), (401, "AmbiguousCredentials"), "two device tokens");
    server.stop().await;
}

#[tokio::test]
async fn both_tokens_of_a_call_through_a_pds_are_good_for_one_call() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let write = Write::new(&server, &alice);
    let (service, proof) = (alice.service_token(WRITE), alice.proof(WRITE, &write.body));
    let call = |service: &str, proof: &str| write.request(service).header(DEVICE_TOKEN_HEADER, proof).send();
    assert_eq!(call(&service, &proof).await.outcome(), PROVEN);
    let fresh = alice.proof(WRITE, &write.body);
    assert_eq!(call(&service, &fresh).await.outcome(), (401, "ReplayedToken"), "the service token again");
    assert_eq!(call(&alice.service_token(WRITE), &proof).await.outcome(), (401, "ReplayedToken"), "the proof again");
    assert_eq!(write.request(&proof).send().await.outcome(), (401, "ReplayedToken"), "the proof alone");
    assert_eq!(write.request(&fresh).send().await.outcome(), PROVEN, "what was not judged is not used up");
    server.stop().await;
}

#[tokio::test]
async fn a_device_token_that_says_what_the_body_is_is_held_to_it() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let write = Write::new(&server, &alice);
    for (proof, expected) in [
        (alice.token(WRITE), PROVEN),
        (alice.proof(WRITE, &write.body), PROVEN),
        (alice.proof(WRITE, b"something else"), (401, "BadJwtBodyHash")),
    ] {
        assert_eq!(write.request(&proof).send().await.outcome(), expected);
    }
    let nsid = GetConvos::NSID;
    for (body, expected) in [(&b""[..], (200, "")), (b"{}", (401, "BadJwtBodyHash"))] {
        let direct = server.raw(nsid, "").token(&alice.proof(nsid, body)).send().await;
        assert_eq!(direct.outcome(), expected, "a query has no body: {}", body_hash(body));
        let read = server.raw(nsid, "").token(&alice.service_token(nsid));
        let read = read.header(DEVICE_TOKEN_HEADER, &alice.proof(nsid, body)).send().await;
        assert_eq!(read.outcome(), expected, "through a PDS");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_read_through_a_pds_names_a_device_that_the_account_has() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let revoked = server.second_device(&alice).await;
    let device = revoked.device().to_string();
    alice.procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    let unknown = Handmade::new(&server, Arc::clone(alice.account()));
    let nsid = GetConvos::NSID;
    for (named, expected) in [
        (alice.device().as_str(), (200, "")),
        (bob.device().as_str(), (401, "DeviceUnknown")),
        (unknown.signer.device.as_str(), (401, "DeviceUnknown")),
        ("dev_", (401, "DeviceUnknown")),
        (revoked.device().as_str(), (401, "DeviceRevoked")),
    ] {
        let call = server.raw(nsid, "").token(&alice.service_token(nsid)).header(DEVICE_HEADER, named);
        assert_eq!(call.send().await.outcome(), expected, "{named}");
    }
    server.stop().await;
}

#[tokio::test]
async fn where_proof_is_optional_a_name_is_enough_to_write() {
    let server = TestServer::start_with(&[("DEVICE_PROOF", "optional")]).await;
    let alice = server.person("alice").await;
    let write = Write::new(&server, &alice);
    assert_eq!(write.through_pds().send().await.outcome(), (401, "DeviceRequired"));
    let named = write.through_pds().header(DEVICE_HEADER, alice.device().as_str());
    assert_eq!(named.send().await.outcome(), PROVEN);
    assert_eq!(write.with(&alice.proof(WRITE, b"{}")).await.outcome(), (401, "BadJwtBodyHash"), "a proof is a proof");
    server.stop().await;
}

// ---- the account behind the device ----

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[tokio::test]
async fn a_device_shows_its_account_every_thirty_days() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let nsid = GetConvos::NSID;
    let device = || server.raw(nsid, "").token(&alice.token(nsid)).send();
    let through_pds = || {
        let call = server.raw(nsid, "").token(&alice.service_token(nsid));
        call.header(DEVICE_HEADER, alice.signer.device.as_str()).send()
    };
    let expired = (401, "AccountProofExpired");

    clock.advance_ms(30 * DAY_MS);
    assert_eq!(device().await.outcome(), (200, ""), "on the thirtieth day");
    clock.advance_ms(1);
    let refused = device().await;
    assert_eq!(refused.outcome(), expired);
    assert!(refused.body["message"].as_str().unwrap().contains("registerDevice"), "it says what to do");

    alice.register().await.unwrap();
    assert_eq!(device().await.outcome(), (200, ""), "registered again");
    clock.advance_ms(30 * DAY_MS + 1);
    assert_eq!(device().await.outcome(), expired);
    assert_eq!(through_pds().await.outcome(), (200, ""), "a service token is the proof itself");
    assert_eq!(device().await.outcome(), (200, ""), "and lasts");
    clock.advance_ms(29 * DAY_MS);
    assert_eq!(through_pds().await.outcome(), (200, ""));
    clock.advance_ms(29 * DAY_MS);
    assert_eq!(device().await.outcome(), (200, ""), "from the last proof on");
    server.stop().await;
}

/// The account's document with a service of this endpoint.
fn with_server(person: &Person, endpoint: &str) -> Value {
    let mut document = person.account().document();
    let service = json!({ "id": "#atproto_mls", "type": "AtprotoMlsService", "serviceEndpoint": endpoint });
    document["service"].as_array_mut().unwrap().push(service);
    document
}

/// The outcomes of all methods for Alice's device, or her account where the method takes nothing else.
async fn outcomes(server: &TestServer, alice: &Person) -> Vec<(&'static str, Answer)> {
    let mut outcomes = Vec::new();
    for rule in guarded().filter(|rule| rule.caller != "Operator") {
        let by_account = rule.caller == "Account";
        let token = if by_account { alice.service_token(rule.nsid) } else { alice.token(rule.nsid) };
        outcomes.push((rule.nsid, example(server, rule).token(&token).send().await));
    }
    outcomes
}

#[tokio::test]
async fn an_account_that_names_another_server_keeps_its_devices_and_key_packages_here_and_nothing_else() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let alice = server.newcomer("alice", 0).await;
    server.directory.publish(alice.did(), with_server(&alice, "https://elsewhere.example"));
    clock.advance_ms(60 * 60 * 1000);
    alice.devices().await.unwrap();

    for (nsid, answer) in outcomes(&server, &alice).await {
        let open = ["registerDevice", "listDevices", "revokeDevice", "publishKeyPackage", "publishKeyPackages"];
        let refused = answer.outcome() == (403, "AccountHomeElsewhere");
        let kept = open.contains(&nsid.rsplit('.').next().unwrap());
        assert_eq!(refused, !kept, "{nsid}: {}", answer.body);
        assert!(!refused || answer.body["message"].as_str().unwrap().contains("did:web:elsewhere.example"));
    }
    let nsid = GetConvos::NSID;
    let read = || server.raw(nsid, "").token(&alice.service_token(nsid)).header(DEVICE_HEADER, alice.device().as_str());
    assert_eq!(read().send().await.outcome(), (403, "AccountHomeElsewhere"), "through a PDS");

    // A replica that can ask nobody goes by what was found out.
    let alone = server.replica_with(&[("PLC_URL", "http://127.0.0.1:1")]).await;
    let call = server.http_get(&format!("http://{}/xrpc/{nsid}", alone.address()), &alice.token(nsid)).await;
    assert_eq!(call, (403, "AccountHomeElsewhere".to_owned()));
    let bob = server.newcomer("bob", 0).await;
    let call = server.http_get(&format!("http://{}/xrpc/{nsid}", alone.address()), &bob.token(nsid)).await;
    assert_eq!(call, (200, String::new()), "a directory that does not answer refuses no device");
    alone.stop().await.unwrap();

    // Home again: this server's own name, and none.
    for document in [with_server(&alice, "https://rookery.test"), alice.account().document()] {
        server.directory.publish(alice.did(), document);
        clock.advance_ms(60 * 60 * 1000);
        assert_eq!(read().send().await.outcome(), (200, ""));
        let direct = server.raw(nsid, "").token(&alice.token(nsid)).send().await;
        assert_eq!(direct.outcome(), (200, ""));
        server.directory.publish(alice.did(), with_server(&alice, "https://elsewhere.example"));
        clock.advance_ms(60 * 60 * 1000);
        assert_eq!(read().send().await.outcome(), (403, "AccountHomeElsewhere"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_the_database_the_first_fresh_token_is_not_refused_for_being_the_first() {
    let mut server = TestServer::start().await;
    let alice = server.person("alice").await;
    server.pause().await;
    // What a crash does to unlogged tables.
    sqlx::query("truncate replay_since").execute(&mut server.database.connect().await).await.unwrap();
    server.start_again(&[]).await;
    alice.service().move_to(&server.url());
    // Tokens of the second in which the memory was lost are refused, whoever comes first.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    alice.query::<GetConvos>(&get_convos::Params { limit: 10, cursor: None }).await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_at_one_time_share_two_look_ups() {
    let server = TestServer::start_with(&[("DATABASE_POOL", "64")]).await;
    let mut people = Vec::new();
    for number in 0..16 {
        people.push(server.newcomer(&format!("caller {number}"), 0).await);
    }
    let mut database = server.database.connect().await;
    let mut held = database.begin().await.unwrap();
    sqlx::query("lock table device in access exclusive mode").execute(&mut *held).await.unwrap();
    let calls = people
        .iter()
        .map(async |person| server.raw(GetConvos::NSID, "").token(&person.token(GetConvos::NSID)).send().await.status);
    let watching = async {
        let mut watcher = server.database.connect().await;
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '%d.public_id = any(%'";
        let mut most = 0;
        for _ in 0..50 {
            most = most.max(sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut watcher).await.unwrap());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held.rollback().await.unwrap();
        most
    };
    let (statuses, most) = tokio::join!(futures_util::future::join_all(calls), watching);
    assert_eq!(most, 2, "statements that look up devices");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    server.stop().await;
}
