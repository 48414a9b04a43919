//! How often anybody may call: accounts by what they proved, addresses by what was not proven from them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderName, header};
use rookery::identity::{
    Curve, DEVICE_HEADER, DEVICE_TOKEN_HEADER, DeviceSigner, SharedSecret, SigningKey, body_hash, service_token,
};
use rookery::lexicon::Method;
use rookery::lexicon::account::create_pairing::CreatePairing;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::register_device::RegisterDevice;
use rookery::lexicon::event::subscribe::Subscribe;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::claim_key_packages::ClaimKeyPackages;
use rookery::lexicon::mls::get_convos::GetConvos;
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::lexicon::mls::update_cursor::UpdateCursor;
use rookery::types::{Clock, Did};
use rookery_testkit::{Form, Identity, Person};
use serde_json::json;

use crate::support::{AccountToken, Answer, Request, Said, Socket, TestServer, Written, at_once, conversation, idem};

const TRUSTED: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.1");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// A PDS, which thousands of accounts share.
const PDS: &str = "198.51.100.1";
const ELSEWHERE: &str = "198.51.100.2";

fn clock() -> Clock {
    Clock::manual(Clock::System.now())
}

async fn start(clock: &Clock, rates: &[(&str, &str)]) -> TestServer {
    TestServer::start_at(clock.clone(), &[rates, &[TRUSTED]].concat()).await
}

/// As an account's PDS asks for its devices.
fn devices_of(server: &TestServer, clock: &Clock, account: &Identity, from: &str) -> Request {
    let token = account.service_token(TestServer::did().as_str(), ListDevices::NSID, clock.now());
    server.raw(ListDevices::NSID, "").token(&token).header(FORWARDED_FOR, from)
}

/// The same with a token that somebody else signed.
fn forged(server: &TestServer, clock: &Clock, account: &Identity, from: &str) -> Request {
    let key = SigningKey::generate(Curve::K256);
    let token = service_token(&key, &account.did, TestServer::did().as_str(), ListDevices::NSID, clock.now());
    server.raw(ListDevices::NSID, "").token(&token).header(FORWARDED_FOR, from)
}

fn number(answer: &Answer, header: &str) -> i64 {
    answer.header(header).parse().unwrap_or_else(|_| panic!("{header} is {:?}", answer.header(header)))
}

#[tokio::test]
async fn accounts_behind_one_address_do_not_throttle_each_other_not_even_while_one_fails_all_the_time() {
    let clock = clock();
    let server = start(&clock, &[("RATE_ACCOUNT", "3/60"), ("RATE_FAILING_ISSUER", "50/60")]).await;
    let accounts: Vec<Arc<Identity>> = (0..200).map(|_| server.account()).collect();
    for account in &accounts {
        assert_eq!(devices_of(&server, &clock, account, PDS).send().await.outcome(), (200, ""));
    }
    let bad = server.account();
    let mut outcomes = Vec::new();
    for _ in 0..200 {
        outcomes.push(forged(&server, &clock, &bad, PDS).send().await.status);
    }
    assert!(outcomes[..50].iter().all(|status| *status == 401), "{outcomes:?}");
    assert!(outcomes[50..].iter().all(|status| *status == 429), "{outcomes:?}");

    // The failing one goes on all the time; everybody else has what is theirs, to the last call.
    for left in [1, 0] {
        for (number_of, account) in accounts.iter().enumerate() {
            assert_eq!(forged(&server, &clock, &bad, PDS).send().await.status, 429);
            let answer = devices_of(&server, &clock, account, PDS).send().await;
            assert_eq!(answer.outcome(), (200, ""), "account {number_of}");
            assert_eq!(number(&answer, "ratelimit-remaining"), left, "account {number_of}");
        }
    }
    assert_eq!(devices_of(&server, &clock, &accounts[0], PDS).send().await.outcome(), (429, "RateLimitExceeded"));
    // An account that was never here gets in, too.
    assert_eq!(devices_of(&server, &clock, &server.account(), PDS).send().await.status, 200);
    assert_eq!(forged(&server, &clock, &bad, ELSEWHERE).send().await.status, 401, "at another address");
    server.stop().await;
}

#[tokio::test]
async fn what_a_proven_account_does_wrong_is_counted_against_it_and_not_against_its_address() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILURE", "5/60"), ("RATE_READ", "30/60")]).await;
    let (account, nsid) = (server.account(), GetConvos::NSID);
    let service = || account.service_token(TestServer::did().as_str(), nsid, clock.now());
    // What anybody may put beside the token that a PDS makes.
    for beside in ["", "dev_x, dev_y", "dev_aaaaaaaaaaaaaaaaaaaaaaaaaa"] {
        for _ in 0..10 {
            let call = server.raw(nsid, "").token(&service()).header(FORWARDED_FOR, PDS);
            let call = if beside.is_empty() { call } else { call.header(DEVICE_HEADER, beside) };
            let answer = call.send().await;
            assert_eq!(answer.status, 401, "{beside:?}: {}", answer.body);
            assert_eq!(number(&answer, "ratelimit-limit"), 30);
        }
    }
    let call = server.raw(nsid, "").token(&service()).header(FORWARDED_FOR, PDS);
    assert_eq!(call.send().await.outcome(), (429, "RateLimitExceeded"));
    for _ in 0..10 {
        let malformed = server.raw(nsid, "?limit=0").token(&service()).header(FORWARDED_FOR, PDS);
        assert_eq!(malformed.send().await.outcome(), (400, "InvalidRequest"));
    }
    assert_eq!(devices_of(&server, &clock, &server.account(), PDS).send().await.outcome(), (200, ""));
    server.stop().await;
}

#[tokio::test]
async fn an_account_over_its_budget_is_told_when_to_come_back_and_nobody_else_is_touched() {
    let clock = clock();
    let server = start(&clock, &[("RATE_READ", "4/60"), ("RATE_WRITE", "2/60")]).await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let read = |person: &Person| server.raw(GetConvos::NSID, "").token(&person.token(GetConvos::NSID));
    let now_s = clock.now_seconds();
    for (remaining, full_in_s) in [(3, 15), (2, 30), (1, 45), (0, 60)] {
        let answer = read(&alice).send().await;
        assert_eq!(answer.outcome(), (200, ""));
        assert_eq!(answer.header("ratelimit-policy"), "4;w=60");
        assert_eq!((number(&answer, "ratelimit-limit"), number(&answer, "ratelimit-remaining")), (4, remaining));
        assert_eq!(number(&answer, "ratelimit-reset"), now_s + full_in_s);
        assert_eq!(answer.header("retry-after"), "");
    }
    for _ in 0..3 {
        let answer = read(&alice).send().await;
        assert_eq!(answer.outcome(), (429, "RateLimitExceeded"));
        assert_eq!((number(&answer, "ratelimit-remaining"), number(&answer, "retry-after")), (0, 15));
        assert_eq!(number(&answer, "ratelimit-reset"), now_s + 60);
        assert!(answer.body["message"].as_str().unwrap().contains("15 s"), "a PDS hands on the sentence alone");
    }
    // By whichever way it comes: through its PDS, and of another device.
    let second = server.second_device(&alice).await;
    assert_eq!(read(&second).send().await.status, 429);
    let named = server.raw(GetConvos::NSID, "").token(&alice.service_token(GetConvos::NSID));
    assert_eq!(named.header(DEVICE_HEADER, alice.device().as_str()).send().await.status, 429);

    assert_eq!(read(&bob).send().await.status, 200, "another account");
    let write = server.raw(UpdateCursor::NSID, "").token(&alice.token(UpdateCursor::NSID));
    let write = write.json(&json!({ "stream": format!("s{}", "a".repeat(32)), "seq": 1 })).send().await;
    assert_eq!((write.status, number(&write, "ratelimit-limit")), (404, 2), "another class: {}", write.body);
    clock.advance_ms(15_000);
    assert_eq!(read(&alice).send().await.status, 200);
    assert_eq!(read(&alice).send().await.status, 429);
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_is_repeated_counts_again_and_has_its_first_answer_within_the_budget() {
    let clock = clock();
    let server = start(&clock, &[("RATE_MESSAGE", "3/60")]).await;
    let (stream, people) = conversation(&server, 2).await;
    let message = serde_json::to_value(people[0].draft_message(&stream, b"once").await.unwrap()).unwrap();
    let send = async || {
        let call = server.raw(SendMessage::NSID, "").token(&people[0].token(SendMessage::NSID));
        call.json(&message).send().await
    };
    let first = send().await;
    assert_eq!((first.status, number(&first, "ratelimit-remaining")), (200, 2), "{}", first.body);
    for remaining in [1, 0] {
        let again = send().await;
        assert_eq!((again.status, number(&again, "ratelimit-remaining")), (200, remaining));
        assert_eq!(again.body, first.body);
    }
    let refused = send().await;
    assert_eq!((refused.outcome(), number(&refused, "retry-after")), ((429, "RateLimitExceeded"), 20));
    clock.advance_ms(20_000);
    assert_eq!(send().await.body, first.body);
    server.stop().await;
}

#[tokio::test]
async fn a_subscription_over_the_budget_ends_with_the_error_frame_of_that_name() {
    let clock = clock();
    let server = start(&clock, &[("RATE_SUBSCRIBE", "2/60")]).await;
    let alice = server.newcomer("alice", 0).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut socket = Socket::open(&server, &alice, "?cursor=0").await;
        socket.event().await;
        open.push(socket);
    }
    Socket::open(&server, &alice, "?cursor=0").await.ends("RateLimitExceeded", 1008).await;
    clock.advance_ms(30_000);
    let mut socket = Socket::open(&server, &alice, "?cursor=0").await;
    assert!(matches!(socket.next().await, Said::Event { .. }));
    server.stop().await;
}

// ---- addresses ----

#[tokio::test]
async fn an_address_that_failed_too_often_costs_no_fetch_and_no_look_at_a_token_of_a_stranger() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILURE", "5/5")]).await;
    let no_token = || server.raw(GetConvos::NSID, "").header(FORWARDED_FOR, PDS);
    for _ in 0..5 {
        assert_eq!(no_token().send().await.outcome(), (401, "AuthenticationRequired"));
    }
    assert_eq!(no_token().send().await.outcome(), (429, "RateLimitExceeded"));
    // Had its document been asked for, its absence would be remembered for a minute.
    let newcomer = Identity::plc(Curve::K256, Form::Multikey).unwrap();
    assert_eq!(devices_of(&server, &clock, &newcomer, PDS).send().await.status, 429);
    server.directory.add(&newcomer);
    clock.advance_ms(1000);
    assert_eq!(devices_of(&server, &clock, &newcomer, PDS).send().await.outcome(), (200, ""));
    server.stop().await;
}

#[tokio::test]
async fn who_fails_in_the_name_of_somebody_known_locks_that_name_out_at_the_own_address_alone() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILURE", "5/60"), ("RATE_FAILING_ISSUER", "5/60")]).await;
    let (victim, other) = (server.account(), server.account());
    for account in [&victim, &other] {
        assert_eq!(devices_of(&server, &clock, account, PDS).send().await.status, 200);
    }
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(forged(&server, &clock, &victim, ELSEWHERE).send().await.status);
    }
    assert_eq!(statuses[4..6], [401, 429], "{statuses:?}");
    let log = devices_of(&server, &clock, &victim, ELSEWHERE).send().await;
    assert_eq!(log.status, 429, "the name that was used too often from there");
    assert_eq!(devices_of(&server, &clock, &other, ELSEWHERE).send().await.status, 200, "another name");
    assert_eq!(devices_of(&server, &clock, &victim, PDS).send().await.status, 200, "another address");
    server.stop().await;
}

/// Each account is another, so none of them has failed before.
#[tokio::test]
async fn issuers_that_begin_to_fail_count_against_their_address() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILURE", "20/60"), ("RATE_FAILING_ISSUER", "5/60")]).await;
    let known = server.account();
    assert_eq!(devices_of(&server, &clock, &known, PDS).send().await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(forged(&server, &clock, &server.account(), PDS).send().await.status);
    }
    assert!(statuses[..20].iter().all(|status| *status == 401), "{statuses:?}");
    assert!(statuses[20..].iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(
        devices_of(&server, &clock, &server.account(), PDS).send().await.status,
        429,
        "an account that was never here"
    );
    assert_eq!(devices_of(&server, &clock, &known, PDS).send().await.status, 200, "an account that was here lately");
    server.stop().await;
}

#[tokio::test]
async fn a_token_of_an_unreachable_issuer_counts_as_failed() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILING_ISSUER", "5/60")]).await;
    // No server listens at that address.
    let (key, did) = (SigningKey::generate(Curve::K256), Did::parse("did:web:localhost%3A9").unwrap());
    let mut outcomes = Vec::new();
    for _ in 0..8 {
        let token = service_token(&key, &did, TestServer::did().as_str(), ListDevices::NSID, clock.now());
        let call = server.raw(ListDevices::NSID, "").token(&token).header(FORWARDED_FOR, PDS);
        outcomes.push(call.send().await.outcome().0);
    }
    assert_eq!(outcomes[..5], [503; 5], "{outcomes:?}");
    assert_eq!(outcomes[5..], [429; 3], "{outcomes:?}");
    server.stop().await;
}

/// A service token of any account, as development accepts it.
fn of_the_web(did: &str, nsid: &str, clock: &Clock) -> String {
    let now_s = clock.now_seconds();
    let claims = json!({
        "iss": did, "aud": TestServer::did().as_str(), "lxm": nsid,
        "iat": now_s, "exp": now_s + 60, "jti": hex::encode(rand::random::<[u8; 8]>()),
    });
    SharedSecret::new(&SECRET.to_owned().into()).unwrap().sign(&claims)
}

const SECRET: &str = "a secret that only developers know";

#[tokio::test]
async fn names_below_one_domain_share_its_budget_of_calls() {
    let clock = clock();
    let server = start(&clock, &[("RATE_DOMAIN", "10/60"), ("JWT_SECRET", SECRET)]).await;
    let call = async |did: &str| {
        let token = of_the_web(did, ListDevices::NSID, &clock);
        server.raw(ListDevices::NSID, "").token(&token).send().await.status
    };
    for number in 0..10 {
        assert_eq!(call(&format!("did:web:a{number}.evil.example")).await, 200);
    }
    assert_eq!(call("did:web:a11.evil.example").await, 429);
    assert_eq!(call("did:web:good.example").await, 200, "another domain");
    assert_eq!(call("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").await, 200, "a name of the directory");
    server.stop().await;
}

#[tokio::test]
async fn calls_look_up_strangers_within_the_budget_of_their_account() {
    let clock = clock();
    let server = start(&clock, &[("FEDERATION", "open"), ("RATE_LOOKUP", "5/60")]).await;
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let stream = alice.create_convo().await.unwrap();
    let strangers: Vec<Arc<Identity>> = (0..7).map(|_| server.account()).collect();
    let claim = async |targets: &[Arc<Identity>]| {
        let targets: Vec<&str> = targets.iter().map(|target| target.did.as_str()).collect();
        let input = json!({ "claimId": idem(), "stream": stream, "targets": targets, "cipherSuites": [1] });
        let nsid = ClaimKeyPackages::NSID;
        server.raw(nsid, "").token(&alice.token(nsid)).json(&input).send().await
    };
    assert_eq!(claim(&strangers[..5]).await.status, 200);
    assert_eq!(claim(&strangers[5..6]).await.outcome(), (429, "RateLimitExceeded"));
    let asked: Vec<usize> = strangers.iter().map(|stranger| server.directory.asked(&stranger.did)).collect();
    assert_eq!(asked, [1, 1, 1, 1, 1, 0, 0]);

    // Mallory, who has no seat, makes the server look up nobody, although he has a budget of his own.
    let bytes = json!({ "$bytes": STANDARD_NO_PAD.encode([1; 32]) });
    let add = json!({ "account": strangers[6].did.as_str(), "device": mallory.device().as_str(), "ref": bytes });
    let input = json!({
        "stream": stream, "idem": idem(), "commit": bytes, "groupInfo": bytes, "welcome": bytes, "adds": [add],
    });
    let nsid = AddMembers::NSID;
    let answer = server.raw(nsid, "").token(&mallory.token(nsid)).json(&input).send().await;
    assert!(answer.status >= 400 && answer.status != 429, "{answer:?}");
    assert_eq!(server.directory.asked(&strangers[6].did), 0);
    server.stop().await;
}

#[tokio::test]
async fn young_accounts_of_one_address_share_a_budget() {
    let clock = clock();
    let server = start(&clock, &[("RATE_YOUNG_ACCOUNTS", "10/60")]).await;
    let alice = server.person("alice").await;
    clock.advance_ms(25 * 60 * 60 * 1000);
    for _ in 0..10 {
        assert_eq!(devices_of(&server, &clock, &server.account(), PDS).send().await.status, 200);
    }
    let refused = devices_of(&server, &clock, &server.account(), PDS).send().await;
    assert_eq!(refused.outcome(), (429, "RateLimitExceeded"));
    assert!(number(&refused, "retry-after") >= 1);
    assert_eq!(devices_of(&server, &clock, alice.account(), PDS).send().await.status, 200, "an account of yesterday");
    assert_eq!(devices_of(&server, &clock, &server.account(), ELSEWHERE).send().await.status, 200, "another address");
    server.stop().await;
}

#[tokio::test]
async fn an_address_and_a_domain_create_a_limited_number_of_accounts() {
    let clock = clock();
    let rates = [("RATE_REGISTRATION", "40/3600"), ("RATE_DOMAIN_REGISTRATION", "3/3600"), ("JWT_SECRET", SECRET)];
    let server = start(&clock, &rates).await;
    let register = async |did: &str, from: &str| {
        let signer = DeviceSigner::new(Did::parse(did).unwrap(), SigningKey::generate(Curve::Ed25519));
        let nsid = RegisterDevice::NSID;
        let input = json!({
            "publicKey": { "$bytes": STANDARD_NO_PAD.encode(signer.key().public().raw()) },
            "kind": "app",
        });
        let proof =
            signer.token(TestServer::did().as_str(), nsid, clock.now(), Some(&body_hash(input.to_string().as_bytes())));
        let call = server.raw(nsid, "").token(&of_the_web(did, nsid, &clock)).header(FORWARDED_FOR, from);
        call.header(DEVICE_TOKEN_HEADER, &proof).json(&input).send().await.status
    };
    for number in 0..3 {
        assert_eq!(register(&format!("did:web:a{number}.evil.example"), PDS).await, 200);
    }
    assert_eq!(register("did:web:a4.evil.example", PDS).await, 429);
    assert_eq!(register("did:web:a4.evil.example", ELSEWHERE).await, 429, "from anywhere");
    let mut statuses = Vec::new();
    for number in 0..45 {
        statuses.push(register(&format!("did:web:host{number}.example"), PDS).await);
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 37, "{statuses:?}");
    assert_eq!(register("did:web:newcomer.example", ELSEWHERE).await, 200, "another address");
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_new_names_is_cut_off_and_keeps_no_newcomer_of_another_address_out() {
    let clock = clock();
    let rates = [("RATE_FIRST_FETCH", "40/60"), ("RATE_FIRST_FETCHES", "20/60"), ("RATE_FAILURE", "1000/60")];
    let server = start(&clock, &rates).await;
    let old = server.account();
    assert_eq!(devices_of(&server, &clock, &old, PDS).send().await.status, 200);
    let mut statuses = Vec::new();
    for _ in 0..60 {
        let unknown = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        statuses.push(devices_of(&server, &clock, &unknown, PDS).send().await.outcome() == (401, "UnknownDid"));
    }
    let fetched = statuses.iter().filter(|fetched| **fetched).count();
    assert!((9..=11).contains(&fetched), "half of all, and no more: {fetched}");
    assert!(!statuses[20..].iter().any(|fetched| *fetched), "{statuses:?}");
    assert_eq!(devices_of(&server, &clock, &old, PDS).send().await.status, 200, "what is known costs no fetch");
    let refused = devices_of(&server, &clock, &server.account(), PDS).send().await;
    assert_eq!(refused.outcome(), (429, "RateLimitExceeded"));
    assert!(number(&refused, "retry-after") > 0);
    for host in 0..4 {
        let from = format!("203.0.113.{host}");
        let answer = devices_of(&server, &clock, &server.account(), &from).send().await;
        assert_eq!(answer.outcome(), (200, ""), "a newcomer of {from}");
    }
    server.stop().await;
}

#[tokio::test]
async fn what_anybody_may_call_is_counted_by_address_which_in_ipv6_is_a_network() {
    let clock = clock();
    let server = start(&clock, &[("RATE_OPEN", "3/60")]).await;
    let input = json!({ "publicKey": { "$bytes": "AA" }, "kind": "app" });
    let ask =
        async |from: &str| server.raw(CreatePairing::NSID, "").header(FORWARDED_FOR, from).json(&input).send().await;
    for from in ["2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "[2001:db8:1:2::3]:4711"] {
        assert_eq!(ask(from).await.outcome(), (400, "InvalidRequest"), "{from}");
    }
    assert_eq!(ask("2001:db8:1:2:3:4:5:6").await.outcome(), (429, "RateLimitExceeded"));
    assert_eq!(ask("2001:db8:1:3::1").await.status, 400, "another network");
    assert_eq!(ask(PDS).await.status, 400);
    // Documents and what is not there are taken from the same; whether the server is well is not.
    for (path, expected) in [("/", 200), ("/nothing", 404), ("/health/live", 200), ("/", 429), ("/health/live", 200)] {
        let answer = server.at(http::Method::GET, path).header(FORWARDED_FOR, PDS).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_stands_behind_no_trusted_proxy_is_who_connected_whatever_the_headers_say() {
    let clock = clock();
    let server = TestServer::start_at(clock.clone(), &[("RATE_OPEN", "3/60"), ("TRUSTED_PROXIES", "10.0.0.0/8")]).await;
    let ask = async |name: HeaderName, value: &str| {
        server.at(http::Method::GET, "/").header(name, value).send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask(FORWARDED_FOR, PDS).await, 200);
    assert_eq!(ask(FORWARDED_FOR, ELSEWHERE).await, 200);
    assert_eq!(ask(header::FORWARDED, "for=198.51.100.3").await, 200);
    assert_eq!(ask(FORWARDED_FOR, "10.0.0.1").await, 429);
    server.stop().await;
}

#[tokio::test]
async fn of_calls_at_once_as_many_are_taken_as_the_budget_has() {
    let clock = clock();
    let server = Arc::new(start(&clock, &[("RATE_READ", "20/60")]).await);
    let alice = server.newcomer("alice", 0).await;
    let calls = (0..60).map(|_| {
        let (server, alice) = (Arc::clone(&server), Arc::clone(&alice));
        async move { server.raw(GetConvos::NSID, "").token(&alice.token(GetConvos::NSID)).send().await.status }
    });
    let statuses = at_once(calls).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    Arc::into_inner(server).unwrap().stop().await;
}

/// On one thread, so that all that the server does is heard here.
#[tokio::test]
async fn a_refusal_is_counted_and_its_line_names_neither_address_nor_account() {
    let written = Written::default();
    let _listening = written.listen();
    let clock = clock();
    let metrics = rookery::telemetry::Metrics::install().unwrap();
    let server = start(&clock, &[("RATE_ACCOUNT", "1/60"), ("RATE_OPEN", "1/60")]).await;
    let account = server.account();
    for _ in 0..2 {
        devices_of(&server, &clock, &account, PDS).send().await;
        server.at(http::Method::GET, "/").header(FORWARDED_FOR, PDS).send().await.unwrap();
    }
    server.stop().await;
    let (log, shown) = (written.text(), metrics.render());
    for limit in ["account", "open"] {
        assert!(shown.contains(&format!("rookery_rate_refusals_total{{limit=\"{limit}\"}}")), "{shown}");
    }
    let refused: Vec<&str> = log.lines().filter(|line| line.contains("RateLimitExceeded")).collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(!log.contains(PDS) && !log.contains(account.did.as_str()), "{refused:?}");
    server_lines_name_whom(&refused);
}

fn server_lines_name_whom(refused: &[&str]) {
    let named = |field: &str| refused.iter().filter(|line| !line.contains(&format!("\"{field}\":\"\""))).count();
    assert_eq!((named("caller"), named("address")), (1, 1), "{refused:?}");
}

#[tokio::test]
async fn a_subscriber_s_failed_proof_behind_the_upgrade_counts_against_its_address() {
    let clock = clock();
    let server = start(&clock, &[("RATE_FAILURE", "2/60")]).await;
    let from = (FORWARDED_FOR, PDS.to_owned());
    for expected in ["AuthenticationRequired", "AuthenticationRequired", "RateLimitExceeded"] {
        let mut socket = Socket::with(&server, Subscribe::NSID, "", std::slice::from_ref(&from)).await;
        socket.ends(expected, 1008).await;
    }
    server.stop().await;
}
