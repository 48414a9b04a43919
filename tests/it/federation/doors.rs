//! Who gets in as a server, and by which name everybody else is refused.

use http::{HeaderName, HeaderValue};
use rookery::federation::{Age, CallError};
use rookery::identity::{Curve, SigningKey, key_tag};
use rookery::log::chain::encode;
use rookery::types::{Bytes, Clock, Did, UnixMillis};
use serde_json::{Value, json};

use crate::support::{Federation, Stranger, TestServer, idem};

const STATE: &str = "blue.catbird.mls.getGroupState";
const SEND: &str = "blue.catbird.mls.sendMessage";
const DEVICE: &str = "dev_kjtxncbc5zre2sh44fpmlstzzp";
const NOWHERE: &str = "?stream=scwfgagcsyqhmdj7pbehnj6jvili52f63";
/// Past the door: the method itself says that there is no such stream.
const IN: (u16, &str) = (404, "StreamNotFound");

/// An account that lives at the stranger's.
fn account(servers: &Federation, stranger: &Stranger) -> Did {
    let account = servers[0].account();
    servers.directory.add_at(&account, &stranger.origin);
    account.did.clone()
}

fn query<'a>(stranger: &'a Stranger, account: &'a Did) -> crate::support::Call<'a> {
    let mut call = stranger.call(STATE, Some((account, DEVICE)));
    NOWHERE.clone_into(&mut call.query);
    call
}

fn message(device: Option<&str>) -> Value {
    let mut body = json!({ "stream": &NOWHERE[8..], "idem": idem(), "ciphertext": { "$bytes": "b3BhcXVl" } });
    if let Some(device) = device {
        body["device"] = device.into();
    }
    body
}

/// What the server answered to it.
async fn outcome(call: &crate::support::Call<'_>, server: &TestServer) -> (u16, String) {
    let answer = call.send(server).await;
    let (status, error) = answer.outcome();
    (status, error.to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "what outcome() answers, as it comes")]
fn is(outcome: (u16, String), expected: (u16, &str)) {
    assert_eq!((outcome.0, outcome.1.as_str()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_nobody_introduced_speaks_for_its_accounts_and_for_no_others() {
    let servers = Federation::of(1).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    let theirs = account(&servers, &stranger);
    is(outcome(&query(&stranger, &theirs), server).await, IN);
    // One that lives here, one that lives nowhere, one that nobody knows.
    let ours = server.account().did.clone();
    let nowhere = servers[0].account();
    servers.directory.publish(&nowhere.did, json!({ "id": nowhere.did }));
    let unknown = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
    for other in [&ours, &nowhere.did, &unknown] {
        is(outcome(&query(&stranger, other), server).await, (403, "NotSpokenFor"));
    }
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_signed_request_has_a_name() {
    let stranger = Stranger::start().await;
    let servers = Federation::with(1, &[("FEDERATION_ALLOW", stranger.did.as_str())]).await;
    let server = &servers[0];
    let theirs = account(&servers, &stranger);
    let good = || query(&stranger, &theirs);
    is(outcome(&good(), server).await, IN);

    let spoiled = async |name: &'static str, value: &str| {
        let (body, mut headers) = good().signed(server);
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        let answer = good().send_as(server, body, &headers).await;
        let (status, error) = answer.outcome();
        (status, error.to_owned())
    };
    is(spoiled("authorization", "Bearer x").await, (400, "AmbiguousCredentials"));
    is(spoiled("x-rookery-audience", "did:web:elsewhere.example").await, (401, "WrongAudience"));
    is(spoiled("x-rookery-actor", "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").await, (401, "SignatureInvalid"));
    is(spoiled("x-rookery-more", "1").await, (401, "SignatureMalformed"));
    is(spoiled("signature-input", "other=()").await, (401, "SignatureMissing"));
    let mut late = good();
    late.skew_s = -200;
    is(outcome(&late, server).await, (401, "SignatureExpired"));

    // The same request again, byte for byte.
    let (body, headers) = good().signed(server);
    let (first, again) =
        (good().send_as(server, body.clone(), &headers).await, good().send_as(server, body, &headers).await);
    assert_eq!((first.outcome(), again.outcome()), (IN, (401, "SignatureReplayed")));

    // Another body, and another device than the one that is vouched for.
    let mut call = stranger.call(SEND, Some((&theirs, DEVICE)));
    call.body = Some(message(None));
    let (_, headers) = call.signed(server);
    let other = serde_json::to_vec(&message(None)).unwrap();
    assert_eq!(call.send_as(server, other, &headers).await.outcome(), (401, "DigestMismatch"));
    call.body = Some(message(Some("dev_aaaaaaaaaaaaaaaaaaaaaaaaaa")));
    is(outcome(&call, server).await, (400, "DeviceMismatch"));
    call.body = Some(message(Some(DEVICE)));
    is(outcome(&call, server).await, IN);

    // For whom, and what for.
    let mut nobody = stranger.call(STATE, None);
    NOWHERE.clone_into(&mut nobody.query);
    is(outcome(&nobody, server).await, (400, "ActorRequired"));
    let others = stranger.call("blue.catbird.account.listDevices", Some((&theirs, DEVICE)));
    assert_eq!(outcome(&others, server).await.0, 401, "what is not forwarded takes tokens");
    let others = stranger.call("blue.catbird.mls.getConvos", Some((&theirs, DEVICE)));
    is(outcome(&others, server).await, (400, "ActorNotAllowed"));

    // A key that the document does not list.
    let forged = SigningKey::generate(Curve::Ed25519);
    let mut call = good();
    call.key = &forged;
    is(outcome(&call, server).await, (401, "PeerKeyUnknown"));
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_a_seat_leaves_no_rows() {
    let servers = Federation::of(1).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    for _ in 0..2 {
        let theirs = account(&servers, &stranger);
        is(outcome(&query(&stranger, &theirs), server).await, IN);
    }
    let rows: (i64, i64) = sqlx::query_as("select (select count(*) from account), (select count(*) from device)")
        .fetch_one(&mut server.database.connect().await)
        .await
        .unwrap();
    assert_eq!(rows, (0, 0));
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_names_too_many_devices_of_an_account_is_told_so() {
    let servers = Federation::of(1).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    let theirs = account(&servers, &stranger);
    let stream = servers[0].person("alice").await.create_convo().await.unwrap();
    let seat = "with a as (insert into account (did, created_at) values ($1, now()) returning id)
        insert into seat (stream_id, account_id, from_seq, role, server)
        select s.id, a.id, 1, 1, $2 from a, stream s where s.public_id = $3";
    sqlx::query(seat)
        .bind(theirs.as_str())
        .bind(stranger.did.as_str())
        .bind(stream)
        .execute(&mut server.database.connect().await)
        .await
        .unwrap();
    for number in 0..=50 {
        let device = format!("d{number}");
        let mut call = stranger.call(STATE, Some((&theirs, &device)));
        NOWHERE.clone_into(&mut call.query);
        let expected = if number < 50 { IN } else { (409, "TooManyDevices") };
        is(patiently(&call, server).await, expected);
    }
    servers.stop().await;
}

/// Beyond the few requests a second of a server on probation.
async fn patiently(call: &crate::support::Call<'_>, server: &TestServer) -> (u16, String) {
    loop {
        match outcome(call, server).await {
            (429, name) => assert_eq!(name, "RateLimitExceeded"),
            answered => return answered,
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_new_has_a_tenth_and_is_told_when_to_come_back() {
    // A clock that stands still: however long the calls take, nothing comes back meanwhile.
    let servers = Federation::at(1, Clock::manual(Clock::System.now()), &[("RATE_PEER", "50/1")]).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    let theirs = account(&servers, &stranger);
    let calls: Vec<_> = (0..30).map(|_| query(&stranger, &theirs)).collect();
    let answers = futures_util::future::join_all(calls.iter().map(|call| call.send(server))).await;
    let refused: Vec<_> = answers.iter().filter(|answer| answer.outcome() == (429, "RateLimitExceeded")).collect();
    assert!((25..30).contains(&refused.len()), "{}", refused.len());
    let waits: Vec<_> = refused.iter().map(|answer| answer.header("retry-after")).collect();
    assert!(waits.iter().all(|wait| *wait == "1"), "{waits:?}");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_decides_who_is_talked_to() {
    let off = Federation::with(1, &[("FEDERATION", "off")]).await;
    let stranger = Stranger::start().await;
    let theirs = account(&off, &stranger);
    is(outcome(&query(&stranger, &theirs), &off[0]).await, (403, "FederationOff"));
    assert_eq!(stranger.asked(), Vec::<String>::new(), "nothing was sent to it");
    off.stop().await;

    let listed = Federation::with(1, &[("FEDERATION", "allowlist")]).await;
    let theirs = account(&listed, &stranger);
    is(outcome(&query(&stranger, &theirs), &listed[0]).await, (403, "PeerPending"));
    assert_eq!(stranger.asked(), Vec::<String>::new());
    listed.stop().await;
    let listed = Federation::with(1, &[("FEDERATION", "allowlist"), ("FEDERATION_ALLOW", stranger.did.as_str())]).await;
    let theirs = account(&listed, &stranger);
    is(outcome(&query(&stranger, &theirs), &listed[0]).await, IN);

    let mut connection = listed[0].database.connect().await;
    sqlx::query("update peer set policy = 2").execute(&mut connection).await.unwrap();
    is(outcome(&query(&stranger, &theirs), &listed[0]).await, (403, "PeerBlocked"));
    listed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_does_not_say_in_so_many_words_makes_nobody_a_server() {
    let servers = Federation::of(1).await;
    let server = &servers[0];
    let victim = Stranger::start().await;
    // Its document aims at somebody else.
    let stranger = Stranger::start().await;
    stranger.document(|document| document["service"][0]["serviceEndpoint"] = victim.origin.clone().into());
    let theirs = account(&servers, &stranger);
    for _ in 0..5 {
        let (status, error) = outcome(&query(&stranger, &theirs), server).await;
        assert_eq!((status, error.as_str()), (401, "PeerKeyUnknown"));
    }
    assert_eq!(stranger.asked(), ["did.json"], "it is remembered as no server");
    let federation = &server.server().services().federation;
    let request = || rookery::federation::PeerRequest {
        nsid: SEND,
        kind: rookery::lexicon::Kind::Procedure,
        query: "",
        body: "{}".into(),
        content_type: Some("application/json"),
        actor: None,
    };
    assert_eq!(
        federation.exchange(&stranger.did, request()).await.unwrap_err(),
        CallError::NotSent("it is not a server")
    );
    assert_eq!(stranger.asked().len() + victim.asked().len(), 0, "nothing is ever sent to it, nor to whom it names");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_names_that_are_no_servers_cost_ten_lookups_a_second() {
    let servers = Federation::at(1, Clock::manual(Clock::System.now()), &[]).await;
    let (server, stranger) = (&servers[0], Stranger::start().await);
    let theirs = account(&servers, &stranger);
    // Names of hosts that nobody hosts; each would be a question to somebody.
    let mut refused = 0;
    for number in 0..40 {
        let (body, mut headers) = query(&stranger, &theirs).signed(server);
        let input = headers["signature-input"].to_str().unwrap().to_owned();
        let aimed = input.replace(stranger.did.as_str(), &format!("did:web:h{number}.invalid"));
        headers.insert("signature-input", HeaderValue::from_str(&aimed).unwrap());
        let answer = query(&stranger, &theirs).send_as(server, body, &headers).await;
        refused += usize::from(answer.outcome() == (429, "RateLimitExceeded"));
    }
    assert_eq!(refused, 30);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_counts_at_once_if_an_earlier_one_vouches_for_it() {
    let clock = Clock::manual(Clock::System.now());
    let servers = Federation::at(1, clock.clone(), &[]).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    let theirs = account(&servers, &stranger);
    is(outcome(&query(&stranger, &theirs), server).await, IN);
    let next = SigningKey::generate(Curve::Ed25519);
    stranger.shows(&[&stranger.peer, &next], &[&stranger.checkpoint]);
    stranger.lists(json!({ "keys": [endorsed(&stranger, &next)] }));
    let mut call = query(&stranger, &theirs);
    call.key = &next;
    is(outcome(&call, server).await, IN);
    // Retired: it is not in the document any more, so it does not speak, whoever has it.
    stranger.shows(&[&next], &[&stranger.checkpoint]);
    clock.advance_ms(60 * 60 * 1000);
    call.skew_s = 60 * 60;
    is(outcome(&call, server).await, IN);
    call.key = &stranger.peer;
    is(outcome(&call, server).await, (401, "PeerKeyUnknown"));
    servers.stop().await;
}

/// As its getKeys lists it.
fn endorsed(stranger: &Stranger, next: &SigningKey) -> Value {
    let (id, not_before) = (format!("#peer-{}", key_tag(&next.public())), UnixMillis(1_795_000_000_000));
    let multikey = next.public().multikey();
    let statement = json!({ "v": 1, "server": stranger.did, "id": id, "publicKeyMultibase": multikey,
                            "notBefore": not_before });
    let statement = encode(&statement, "endorsement").unwrap();
    let signature = stranger.peer.sign(&[b"rookery key v1\0".as_slice(), &statement].concat());
    json!({ "id": id, "publicKeyMultibase": multikey, "use": "peer", "notBefore": not_before,
            "endorsedBy": format!("#peer-{}", key_tag(&stranger.peer.public())), "endorsement": Bytes(signature.to_vec()) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_somebody_else_registered_says_nothing_for_three_days() {
    for (mode, after) in [("open", IN), ("allowlist", (403, "PeerKeyHeld"))] {
        let clock = Clock::manual(Clock::System.now());
        let stranger = Stranger::start().await;
        let settings = [("FEDERATION", mode), ("FEDERATION_ALLOW", stranger.did.as_str())];
        let servers = Federation::at(1, clock.clone(), &settings).await;
        let server = &servers[0];
        let theirs = account(&servers, &stranger);
        is(outcome(&query(&stranger, &theirs), server).await, IN);
        // The same name, with other keys.
        let (peer, checkpoint) = (SigningKey::generate(Curve::Ed25519), SigningKey::generate(Curve::Ed25519));
        stranger.shows(&[&peer], &[&checkpoint]);
        let mut call = query(&stranger, &theirs);
        call.key = &peer;
        is(outcome(&call, server).await, (403, "PeerKeyHeld"));
        let federation = &server.server().services().federation;
        let asked = federation.query::<rookery::lexicon::peer::get_keys::GetKeys>(
            &stranger.did,
            &rookery::lexicon::Nothing {},
            None,
        );
        assert_eq!(asked.await.unwrap_err(), CallError::NotSent("its key is not trusted"));
        clock.advance_ms(72 * 60 * 60 * 1000 - 1000);
        call.skew_s = (clock.now().0 - Clock::System.now().0) / 1000;
        is(outcome(&call, server).await, (403, "PeerKeyHeld"));
        clock.advance_ms(1000);
        call.skew_s = (clock.now().0 - Clock::System.now().0) / 1000;
        is(outcome(&call, server).await, after);
        servers.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unendorsed_key_is_held_for_its_own_three_days() {
    let clock = Clock::manual(Clock::System.now());
    let stranger = Stranger::start().await;
    let servers = Federation::at(1, clock.clone(), &[("FEDERATION", "open")]).await;
    let server = &servers[0];
    let theirs = account(&servers, &stranger);
    is(outcome(&query(&stranger, &theirs), server).await, IN);
    let keys: Vec<SigningKey> = (0..4).map(|_| SigningKey::generate(Curve::Ed25519)).collect();
    let (first, late, checkpoint) = (&keys[0], &keys[1], &keys[2]);
    let by = |key, skew_s| {
        let mut call = query(&stranger, &theirs);
        (call.key, call.skew_s) = (key, skew_s);
        call
    };
    let skew = || (clock.now().0 - Clock::System.now().0) / 1000;
    let hour = 60 * 60 * 1000;
    stranger.shows(&[first], &[checkpoint]);
    is(outcome(&by(first, 0), server).await, (403, "PeerKeyHeld"));
    // A minute before the end of the first key's hold, another key appears.
    clock.advance_ms(72 * hour - 60_000);
    stranger.shows(&[first, late], &[checkpoint]);
    is(outcome(&by(late, skew()), server).await, (403, "PeerKeyHeld"));
    clock.advance_ms(2 * hour);
    is(outcome(&by(late, skew()), server).await, (403, "PeerKeyHeld"));
    clock.advance_ms(68 * hour);
    is(outcome(&by(late, skew()), server).await, (403, "PeerKeyHeld"));
    clock.advance_ms(2 * hour);
    is(outcome(&by(late, skew()), server).await, IN);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_server_without_a_document_is_trusted_six_hours() {
    let clock = Clock::manual(Clock::System.now());
    let stranger = Stranger::start().await;
    let servers = Federation::at(1, clock.clone(), &[("FEDERATION", "open")]).await;
    let server = &servers[0];
    let theirs = account(&servers, &stranger);
    let call = || {
        let mut call = query(&stranger, &theirs);
        call.skew_s = (clock.now().0 - Clock::System.now().0) / 1000;
        call
    };
    is(outcome(&call(), server).await, IN);
    let mut shown = Value::Null;
    // The server's host serves another site for a while, without that file.
    stranger.document(|document| shown = std::mem::take(document));
    let hour = 60 * 60 * 1000;
    for _ in 0..5 {
        clock.advance_ms(hour);
        is(outcome(&call(), server).await, IN);
    }
    clock.advance_ms(2 * hour);
    is(outcome(&call(), server).await, (401, "PeerKeyUnknown"));
    stranger.document(|document| *document = shown);
    clock.advance_ms(2 * 60 * 1000);
    is(outcome(&call(), server).await, IN);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_had_another_key_before_is_refused() {
    let servers = Federation::of(1).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    let theirs = account(&servers, &stranger);
    is(outcome(&query(&stranger, &theirs), server).await, IN);
    // Ids are made of 40 bits of the key: somebody may find two.
    let other = SigningKey::generate(Curve::Ed25519).public().raw();
    let mut connection = server.database.connect().await;
    sqlx::query("update peer_key set public_key = $1 where purpose = 1")
        .bind(other)
        .execute(&mut connection)
        .await
        .unwrap();
    is(outcome(&query(&stranger, &theirs), server).await, (401, "PeerKeyReused"));
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_account_lives_is_verified_or_the_call_waits() {
    let clock = Clock::manual(Clock::System.now());
    let servers = Federation::at(1, clock.clone(), &[]).await;
    let (stranger, server) = (Stranger::start().await, &servers[0]);
    // A DID at a host that does not answer.
    let unreachable = Did::parse("did:web:localhost%3A1").unwrap();
    is(outcome(&query(&stranger, &unreachable), server).await, (503, "HomeUnverified"));

    // An account that moved is not spoken for by its old server once the answer is old enough to be asked for again.
    let identity = servers[0].account();
    servers.directory.add_at(&identity, &stranger.origin);
    is(outcome(&query(&stranger, &identity.did), server).await, IN);
    servers[0].houses(&identity);
    is(outcome(&query(&stranger, &identity.did), server).await, IN);
    clock.advance_ms(60 * 60 * 1000);
    let mut call = query(&stranger, &identity.did);
    call.skew_s = (clock.now().0 - Clock::System.now().0) / 1000;
    is(outcome(&call, server).await, (403, "NotSpokenFor"));
    let federation = &server.server().services().federation;
    assert_eq!(federation.home_of(&identity.did, Age::First).await.unwrap(), rookery::federation::AccountHome::Here);
    servers.stop().await;
}
