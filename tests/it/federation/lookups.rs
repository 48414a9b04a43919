//! What calls of accounts make a server look up.

use std::sync::Arc;

use rookery::cli::demo::{Form, Identity};
use rookery::identity::Curve;
use rookery::lexicon::Method as _;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::claim_key_packages::ClaimKeyPackages;
use rookery::types::{Clock, Did};
use serde_json::{Value, json};

use crate::support::{Federation, idem};

const TEN_MINUTES_MS: i64 = 10 * 60 * 1000;

/// A DID that no server here has heard of.
fn unheard() -> Did {
    Identity::plc(Curve::K256, Form::Multikey).unwrap().did
}

fn claim(stream: &str, targets: &[Did]) -> Value {
    json!({ "claimId": idem(), "stream": stream, "targets": targets, "cipherSuites": [1] })
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_count_against_the_account_that_causes_them() {
    let servers = Federation::at(1, Clock::manual(Clock::System.now()), &[("RATE_LOOKUP", "25/86400")]).await;
    let server = &servers[0];
    let (alice, bob) = (server.person("alice").await, server.person("bob").await);
    let streams = [alice.create_convo().await.unwrap(), bob.create_convo().await.unwrap()];
    let ask = async |person: &rookery::cli::demo::Person, stream: &str| {
        let targets: Vec<Did> = (0..20).map(|_| unheard()).collect();
        let request = server.raw(ClaimKeyPackages::NSID, "").json(&claim(stream, &targets));
        request.token(&person.token(ClaimKeyPackages::NSID)).send().await
    };
    assert_eq!(ask(&alice, &streams[0]).await.outcome(), (200, ""));
    let spent = ask(&alice, &streams[0]).await;
    assert_eq!(spent.outcome(), (429, "RateLimitExceeded"), "{}", spent.body);
    assert_eq!(ask(&bob, &streams[1]).await.outcome(), (200, ""), "another account has a budget of its own");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_looked_up_for_a_caller_without_a_seat() {
    let servers = Federation::at(1, Clock::manual(Clock::System.now()), &[("RATE_LOOKUP", "1/86400")]).await;
    let server = &servers[0];
    let (alice, mallory) = (server.person("alice").await, server.person("mallory").await);
    let stream = alice.create_convo().await.unwrap();
    let bytes = json!({ "$bytes": "AAAA" });
    let adds: Vec<Value> =
        (0..3).map(|_| json!({ "account": unheard(), "device": alice.device(), "ref": bytes })).collect();
    let commit = json!({
        "idem": idem(), "stream": stream, "commit": bytes, "groupInfo": bytes, "welcome": bytes, "adds": adds,
    });
    let answer = server.raw(AddMembers::NSID, "").json(&commit).token(&mallory.token(AddMembers::NSID)).send().await;
    assert_eq!(answer.outcome(), (404, "StreamNotFound"), "{}", answer.body);
    let answer = server.raw(AddMembers::NSID, "").json(&commit).token(&alice.token(AddMembers::NSID)).send().await;
    assert_eq!(answer.outcome(), (429, "RateLimitExceeded"), "a member's call does look them up: {}", answer.body);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_this_server_are_added_without_a_lookup() {
    let clock = Clock::manual(Clock::System.now());
    let servers = Federation::at(1, clock.clone(), &[("RATE_LOOKUP", "1/86400")]).await;
    let server = &servers[0];
    let (alice, bob, carol) = (server.person("alice").await, server.person("bob").await, server.person("carol").await);
    let stream = alice.create_convo().await.unwrap();
    // Documents are older than any answer that a look-up may give.
    clock.advance_ms(TEN_MINUTES_MS);
    let added = alice.add_members(&stream, &[bob.did().clone(), carol.did().clone()]).await.unwrap();
    assert_eq!(added.epoch, 1);
    let _: Arc<_> = bob;
    servers.stop().await;
}
