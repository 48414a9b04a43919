//! Key packages across servers: who gets them, how many, and what cannot be made of it.

use rookery::identity::Curve;
use rookery::types::{DeviceId, Did};
use rookery_testkit::{Form, Identity};
use serde_json::{Value, json};

use super::joining::known;
use crate::peer::deliver::Foreign;
use crate::support::{Answer, Behaviour, Contacts, Federation, Stranger, idem};

const STREAM: &str = "sfqpona3sefnrzydeijvvzw6u54sydlha";
const CLAIM: &str = "blue.catbird.mls.claimKeyPackages";

fn body(claim_id: &str, home: &Did, target: &Did) -> Value {
    json!({ "claimId": claim_id, "stream": STREAM, "home": home, "targets": [target], "cipherSuites": [1] })
}

async fn claim(foreign: &Foreign, inviter: &Did, claim_id: &str, target: &Did) -> Answer {
    let device = DeviceId::of_key(inviter.as_str().as_bytes());
    foreign.call(CLAIM, Some((inviter, device.as_str())), body(claim_id, &foreign.stranger.did, target)).await
}

/// Of so many claims by this inviter, those that got a package of their own.
async fn one_time(foreign: &Foreign, inviter: &Did, target: &Did, claims: usize) -> usize {
    let mut own = 0;
    for _ in 0..claims {
        let answer = claim(foreign, inviter, &idem(), target).await;
        assert_eq!(answer.outcome(), (200, ""), "{}", answer.body);
        own += usize::from(answer.body["targets"][0]["packages"][0]["lastResort"] == json!(false));
    }
    own
}

/// A further account of the stranger's server.
fn account_of(foreign: &Foreign) -> Did {
    let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
    foreign.servers.directory.add_at(&account, &foreign.stranger.origin);
    account.did
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_actor_claims_nothing() {
    let foreign = Foreign::start(&[]).await;
    let (alice, nowhere) =
        (foreign.servers[0].person("alice").await, Identity::plc(Curve::K256, Form::Multikey).unwrap());
    foreign.servers.directory.publish(&nowhere.did, json!({ "id": nowhere.did }));
    for actor in [alice.did(), foreign.bob.did(), &nowhere.did] {
        let answer = claim(&foreign, actor, &idem(), foreign.bob.did()).await;
        assert_eq!(answer.outcome(), (403, "NotSpokenFor"));
    }
    let nobody = foreign.call(CLAIM, None, body(&idem(), &foreign.stranger.did, foreign.bob.did())).await;
    assert_eq!(nobody.outcome(), (400, "ActorRequired"));
    // In a stream of ours without a seat.
    let stream = foreign.bob.create_convo().await.unwrap();
    let mut ours = body(&idem(), foreign.servers[0].did(), foreign.bob.did());
    ours["stream"] = json!(stream);
    let actor = (&foreign.mallory.did, foreign.device.as_str());
    assert_eq!(foreign.call(CLAIM, Some(actor), ours).await.outcome(), (404, "StreamNotFound"));
    let taken: i64 = sqlx::query_scalar("select count(*) from key_package_claim")
        .fetch_one(&mut foreign.servers[0].database.connect().await)
        .await
        .unwrap();
    assert_eq!(taken, 0);
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inviter_takes_5_a_server_20_and_all_strangers_100_one_time_packages_a_day() {
    let foreign = Foreign::start(&[]).await;
    foreign.bob.publish(45, false).await.unwrap();
    let bob = foreign.bob.did();
    assert_eq!(one_time(&foreign, &foreign.mallory.did, bob, 7).await, 5);
    for expected in [5, 5, 5, 0] {
        let inviter = account_of(&foreign);
        assert_eq!(one_time(&foreign, &inviter, bob, 6).await, expected);
    }
    // What strangers took together counts for strangers alone: this one was allowed by name.
    let mut database = foreign.servers[0].database.connect().await;
    let older = "update key_package_claim set peer = 'did:web:other.example', outside = true";
    sqlx::query(older).execute(&mut database).await.unwrap();
    let many = "insert into key_package_claim
                    (key_package_id, claimer_id, target_id, one_time, created_at, stream, home, peer, outside)
                select key_package_id, claimer_id, target_id, true, created_at, stream, home, peer, true
                from key_package_claim c, generate_series(1, 80) where c.id = (select min(id) from key_package_claim)";
    sqlx::query(many).execute(&mut database).await.unwrap();
    assert_eq!(one_time(&foreign, &account_of(&foreign), bob, 1).await, 1);
    sqlx::query("update peer set policy = 0, first_seen_at = now() - interval '30 days'")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(one_time(&foreign, &account_of(&foreign), bob, 1).await, 0);
    sqlx::query("update key_package_claim set created_at = created_at - interval '1 day'")
        .execute(&mut database)
        .await
        .unwrap();
    assert_eq!(one_time(&foreign, &account_of(&foreign), bob, 1).await, 1, "tomorrow");
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_claim_gets_the_same_packages_and_who_moved_or_never_was_here_is_said() {
    let foreign = Foreign::start(&[("INVITATIONS", "contacts")]).await;
    let (carol, never) = (foreign.servers[0].person("carol").await, account_of(&foreign));
    let told = async |target: &Did| {
        claim(&foreign, &foreign.mallory.did, &idem(), target).await.body["targets"][0]["problem"].clone()
    };
    assert_eq!(told(foreign.bob.did()).await, "consentRequired");
    assert_eq!(told(&never).await, "notHere");
    assert_eq!(told(carol.did()).await, "consentRequired");
    foreign.servers.directory.add_at(carol.account(), &foreign.stranger.origin);
    foreign.servers[0].server().services().federation.look_again(carol.did()).await;
    assert_eq!(told(carol.did()).await, "moved");

    foreign.bob.invitations("everyone").await;
    let name = idem();
    let first = claim(&foreign, &foreign.mallory.did, &name, foreign.bob.did()).await;
    assert!(first.body["targets"][0]["packages"].is_array(), "{}", first.body);
    assert_eq!(claim(&foreign, &foreign.mallory.did, &name, foreign.bob.did()).await.body, first.body);
    let other = claim(&foreign, &foreign.mallory.did, &name, carol.did()).await;
    assert_eq!(other.outcome(), (409, "IdempotencyConflict"));
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_did_document_cannot_aim_our_calls_at_a_third_party() {
    let servers = Federation::of(1).await;
    let (alice, victim) = (servers[0].person("alice").await, Stranger::start().await);
    // It is no server: its document says nothing of it.
    victim.document(|document| document["service"] = json!([]));
    let stream = alice.create_convo().await.unwrap();
    for _ in 0..20 {
        let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        servers.directory.add_at(&account, &victim.origin);
        assert_eq!(alice.claims(&stream, &account.did).await.as_deref(), Some("unavailable"));
    }
    let account = std::sync::Arc::new(Identity::plc(Curve::K256, Form::Multikey).unwrap());
    servers.directory.add_at(&account, &victim.origin);
    let person = rookery_testkit::Person::new("nobody", account, servers[0].service()).unwrap();
    alice.relate(&person, "request").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(victim.asked(), ["did.json"], "its document, once, and no method");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lies_or_says_nothing_keeps_nobody_else_out() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (alice, bob, liar) =
        (servers[0].person("alice").await, servers[1].person("bob").await, Stranger::start().await);
    let carol = servers[0].person("carol").await;
    let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
    servers.directory.add_at(&account, &liar.origin);
    let stream = alice.create_convo().await.unwrap();
    // It answers for somebody else's account.
    let lie = json!({ "targets": [{ "account": bob.did(), "problem": "exhausted" }] });
    liar.behaves(Behaviour::Answers(200, lie));
    let input = rookery::lexicon::mls::claim_key_packages::Input {
        claim_id: idem(),
        stream,
        home: None,
        targets: vec![account.did.clone(), bob.did().clone(), carol.did().clone()],
        cipher_suites: vec![1],
    };
    let answer = alice.procedure::<rookery::lexicon::mls::claim_key_packages::ClaimKeyPackages>(&input).await.unwrap();
    let problems: Vec<Option<&str>> = answer.targets.iter().map(|target| target.problem.as_deref()).collect();
    assert_eq!(problems, [Some("unavailable"), None, None]);
    assert_eq!(answer.targets[1].account, *bob.did(), "in the order asked");
    assert_eq!(answer.targets[1].packages.as_ref().unwrap()[0].device, bob.device().as_str());
    servers.stop().await;
}
