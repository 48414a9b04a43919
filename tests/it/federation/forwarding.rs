//! What a client is told of a call that another server must judge: whether it happened, did not, or cannot be known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rookery::identity::Signed;
use rookery::identity::key_tag;
use rookery::log::chain::{CHECKPOINT_LABEL, Checkpoint, Content, Genesis, Head};
use rookery::log::{EntryKind, Held, Span, StreamKind};
use rookery::types::{Bytes, Clock, Hash, Seq, StreamId};
use rookery_testkit::Person;
use serde_json::{Value, json};

use crate::support::{Behaviour, Federation, Stranger, TestServer, idem};

const SEND: &str = "blue.catbird.mls.sendMessage";

/// A stream that the stranger founded, as this server holds it.
async fn stream_of(stranger: &Stranger, server: &TestServer) -> Head {
    let now = Clock::System.now();
    let genesis = Genesis::new(StreamKind::Convo, stranger.did.as_str(), now);
    let (term, genesis) = (genesis.term(), genesis.encode().unwrap());
    let stream = StreamId::of_genesis(&genesis);
    let mut head = Head { stream, term, seq: Seq(0), hash: Hash::ZERO, time: now };
    let sealed = head.seal(EntryKind::Opened, None, &Content::new(genesis.clone(), None), now).unwrap();
    let entries = vec![Held { header: sealed.header, content: Some(sealed.content) }];
    let (home, erased) = (stranger.did.clone(), BTreeSet::new());
    let span = Span { home, genesis, anchor: None, entries, erased, checkpoint: None };
    server.server().services().log.adopt(&span).await.unwrap();
    head
}

/// A seat of an account of this server, shown to the account or held.
async fn seat(server: &TestServer, stream: &str, person: &Person, held: bool) {
    let seat = "insert into seat (stream_id, account_id, from_seq, role, server, held)
        select s.id, a.id, 1, 1, $3, $4 from stream s, account a where s.public_id = $1 and a.did = $2";
    sqlx::query(seat)
        .bind(stream)
        .bind(person.did().as_str())
        .bind(server.name().as_str())
        .bind(held)
        .execute(&mut server.database.connect().await)
        .await
        .unwrap();
}

/// A message by somebody of this server, whoever judges it.
async fn send(server: &TestServer, person: &Person, stream: &str) -> (u16, Value, String) {
    let (message, _) = person.encrypt(stream, b"x").await.unwrap_or_default();
    let body = json!({ "stream": stream, "idem": idem(), "ciphertext": Bytes(message) });
    let answer = server.raw(SEND, "").token(&person.token(SEND)).json(&body).send().await;
    (answer.status, answer.body.clone(), answer.header("retry-after").to_owned())
}

struct World {
    servers: Federation,
    stranger: Stranger,
    person: Arc<Person>,
    head: Head,
    own: String,
}

impl World {
    async fn new() -> Self {
        let servers = Federation::with(1, &[("REQUEST_TIMEOUT_MS", "1500")]).await;
        let stranger = Stranger::start().await;
        let person = servers[0].person("alice").await;
        let head = stream_of(&stranger, &servers[0]).await;
        seat(&servers[0], head.stream.as_str(), &person, false).await;
        let own = person.create_convo().await.unwrap();
        Self { servers, stranger, person, head, own }
    }

    /// What Alice is told when her stream's home behaves so.
    async fn told(&self, behaviour: Behaviour) -> (u16, String, String) {
        self.stranger.behaves(behaviour);
        // Any message of any group: this server does not judge it.
        let (message, _) = self.person.encrypt(&self.own, b"x").await.unwrap();
        let body = json!({ "stream": self.head.stream, "idem": idem(), "ciphertext": Bytes(message) });
        let answer = self.servers[0].raw(SEND, "").token(&self.person.token(SEND)).json(&body).send().await;
        (answer.status, answer.outcome().1.to_owned(), answer.header("retry-after").to_owned())
    }

    /// What a home signs for an entry; of that server, at that number.
    fn receipt(&self, by: &str, seq: Seq, hash: Hash) -> Value {
        let head = Head { seq, hash, ..self.head.clone() };
        let statement = Checkpoint::new(by, &head).statement().unwrap();
        let id = format!("#checkpoint-{}", key_tag(&self.stranger.checkpoint.public()));
        json!(Signed::sign(CHECKPOINT_LABEL, statement, &id, &self.stranger.checkpoint))
    }
}

fn error(status: u16, name: &str) -> Behaviour {
    Behaviour::Answers(status, json!({ "error": name, "message": "the home's own words" }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_what_is_known_of_its_call() {
    let world = World::new().await;
    for (behaviour, status, name) in [
        // The home judged it.
        (error(409, "IdempotencyConflict"), 409, "IdempotencyConflict"),
        (error(403, "NotMember"), 403, "NotMember"),
        (error(404, "StreamNotFound"), 404, "StreamNotFound"),
        (error(429, "RateLimitExceeded"), 429, "RateLimitExceeded"),
        // It could not.
        (error(500, "InternalServerError"), 502, "HomeUnavailable"),
        (error(503, "HomeRecovering"), 502, "HomeUnavailable"),
        (error(504, "TimedOut"), 504, "OutcomeUnknown"),
        // It does not take this server's word.
        (error(401, "SignatureInvalid"), 502, "FederationRefused"),
        (error(403, "PeerBlocked"), 502, "FederationRefused"),
        (error(403, "NotSpokenFor"), 502, "FederationRefused"),
        // It said nothing, or nothing that can be read.
        (Behaviour::Silent, 504, "OutcomeUnknown"),
    ] {
        let (told, error, retry) = world.told(behaviour).await;
        assert_eq!((told, error.as_str()), (status, name));
        assert_eq!(retry.is_empty(), !matches!(told, 429 | 503 | 504), "{name}");
    }
    assert_eq!(world.stranger.asked().iter().filter(|asked| *asked == SEND).count(), 11, "each was asked once");
    world.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_counts_only_with_what_the_home_signed_for_it() {
    let world = World::new().await;
    let (term, hash) = (world.head.term, Hash([7; 32]));
    let answer = |receipt: Option<Value>| {
        let mut answer = json!({ "term": term, "seq": 2, "hash": Bytes(hash.to_vec()) });
        if let Some(receipt) = receipt {
            answer["receipt"] = receipt;
        }
        Behaviour::Answers(200, answer)
    };
    let home = world.stranger.did.to_string();
    for bad in [
        None,
        Some(world.receipt(&home, Seq(3), hash)),
        Some(world.receipt(&home, Seq(2), Hash([8; 32]))),
        Some(world.receipt("did:web:elsewhere.example", Seq(2), hash)),
        Some({
            let mut forged = world.receipt(&home, Seq(2), hash);
            forged["sig"] = json!(Bytes(vec![1; 64]));
            forged
        }),
    ] {
        let (status, name, _) = world.told(answer(bad)).await;
        assert_eq!((status, name.as_str()), (504, "OutcomeUnknown"));
    }
    let (status, ..) = world.told(answer(Some(world.receipt(&home, Seq(2), hash)))).await;
    assert_eq!(status, 200);
    world.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_cannot_be_reached_did_nothing_and_is_not_tried_all_the_time() {
    let world = World::new().await;
    // Its document is known, and nobody is there any more.
    assert_eq!(world.told(error(409, "IdempotencyConflict")).await.0, 409);
    let World { servers, stranger, person, head, .. } = world;
    drop(stranger);
    tokio::time::sleep(Duration::from_millis(50)).await;
    for _ in 0..5 {
        let body = json!({ "stream": head.stream, "idem": idem(), "ciphertext": { "$bytes": "b3BhcXVl" } });
        let answer = servers[0].raw(SEND, "").token(&person.token(SEND)).json(&body).send().await;
        assert_eq!(answer.outcome(), (502, "HomeUnavailable"));
    }
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_from_a_server_goes_no_further_and_names_the_home() {
    let world = World::new().await;
    let other = Stranger::start().await;
    let account = world.servers[0].account();
    world.servers.directory.add_at(&account, &other.origin);
    let mut call = other.call("blue.catbird.mls.getGroupState", Some((&account.did, "d1")));
    call.query = format!("?stream={}", world.head.stream);
    // For an account that was never in it the stream does not exist, wherever it is ordered.
    assert_eq!(call.send(&world.servers[0]).await.outcome(), (404, "StreamNotFound"));
    let seat = "with a as (insert into account (did, created_at) values ($1, now()) returning id)
        insert into seat (stream_id, account_id, from_seq, role, server)
        select s.id, a.id, 1, 1, $2 from a, stream s where s.public_id = $3";
    sqlx::query(seat)
        .bind(account.did.as_str())
        .bind(other.did.as_str())
        .bind(world.head.stream.as_str())
        .execute(&mut world.servers[0].database.connect().await)
        .await
        .unwrap();
    let answer = call.send(&world.servers[0]).await;
    assert_eq!(answer.outcome(), (403, "NotHome"));
    assert_eq!(answer.body["home"], world.stranger.did.as_str());
    world.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stream_costs_nobody_a_call() {
    let world = World::new().await;
    let (status, body, _) = send(&world.servers[0], &world.person, "scwfgagcsyqhmdj7pbehnj6jvili52f63").await;
    assert!((400..500).contains(&status), "{body}");
    assert_eq!(world.stranger.asked(), Vec::<String>::new());
    world.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_forwarded_for_an_unaccepted_seat() {
    let world = World::new().await;
    let bob = world.servers[0].person("bob").await;
    let stream = world.head.stream.as_str();
    for held in [false, true] {
        if held {
            seat(&world.servers[0], stream, &bob, true).await;
        }
        let state = "blue.catbird.mls.getGroupState";
        let query = format!("?stream={stream}");
        let answer = world.servers[0].raw(state, &query).token(&bob.token(state)).send().await;
        assert_eq!(answer.outcome(), (404, "StreamNotFound"), "held: {held}");
        assert_eq!(send(&world.servers[0], &bob, stream).await.0, 404);
    }
    assert_eq!(world.stranger.asked(), Vec::<String>::new(), "the home heard nothing");
    world.servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_home_keeps_no_account_that_leaves_immediately() {
    let world = World::new().await;
    let leave = "blue.catbird.mls.leaveConvo";
    let leaves = async |immediate: bool| {
        let body = json!({ "stream": world.head.stream, "idem": idem(), "immediate": immediate });
        world.servers[0].raw(leave, "").token(&world.person.token(leave)).json(&body).send().await
    };
    world.stranger.behaves(error(409, "LastAdmin"));
    assert_eq!(leaves(false).await.outcome(), (409, "LastAdmin"));
    let left = leaves(true).await;
    assert_eq!((left.outcome(), &left.body["queued"]), ((200, ""), &json!(true)));
    let state = "blue.catbird.mls.getGroupState";
    let query = format!("?stream={}", world.head.stream);
    let answer = world.servers[0].raw(state, &query).token(&world.person.token(state)).send().await;
    assert_eq!(answer.outcome(), (404, "StreamNotFound"));
    world.servers.stop().await;
}
