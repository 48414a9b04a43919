//! A server that we did not write delivers.

use std::sync::Arc;

use rookery::federation::joining::invitation;
use rookery::identity::Curve;
use rookery::log::StreamKind;
use rookery::log::chain::Genesis;
use rookery::types::{Bytes, DeviceId, Did, StreamId, UnixMillis};
use rookery_client::mls::Client;
use rookery_testkit::{Form, Identity, Person};
use serde_json::{Value, json};

use crate::support::{Answer, Contacts, Federation, Stranger, allow, idem};

/// A stranger's server with an account of it, and Bob's, which is ours.
pub struct Foreign {
    pub servers: Federation,
    pub stranger: Stranger,
    pub mallory: Identity,
    pub device: DeviceId,
    pub bob: Arc<Person>,
}

pub fn b64(bytes: &[u8]) -> Value {
    json!(Bytes(bytes.to_vec()))
}

impl Foreign {
    pub async fn start(settings: &[(&str, &str)]) -> Self {
        let servers = Federation::with(1, settings).await;
        let stranger = Stranger::start().await;
        allow(&servers[0], &stranger.did).await;
        let mallory = Identity::plc(Curve::K256, Form::Multikey).unwrap();
        servers.directory.add_at(&mallory, &stranger.origin);
        let bob = servers[0].person("bob").await;
        Self { servers, stranger, mallory, device: DeviceId::of_key(b"mallory's"), bob }
    }

    pub async fn deliver(&self, body: Value) -> Answer {
        self.call("blue.catbird.peer.deliver", None, body).await
    }

    pub async fn call(&self, nsid: &str, actor: Option<(&Did, &str)>, body: Value) -> Answer {
        let mut call = self.stranger.call(nsid, actor);
        call.body = Some(body);
        call.send(&self.servers[0]).await
    }

    /// As Mallory's device, for her own stream.
    pub async fn claim(&self, stream: &StreamId, target: &Did) -> Value {
        let body = json!({ "claimId": idem(), "stream": stream, "home": self.stranger.did, "targets": [target],
                           "cipherSuites": [1] });
        let actor = (&self.mallory.did, self.device.as_str());
        let answer = self.call("blue.catbird.mls.claimKeyPackages", Some(actor), body).await;
        assert_eq!(answer.outcome(), (200, ""), "{}", answer.body);
        answer.body["targets"][0].clone()
    }

    /// A conversation of hers, with Bob in it by a package that was claimed for it.
    pub async fn invitation(&self) -> Invitation {
        let genesis = Genesis::new(StreamKind::Convo, self.stranger.did.as_str(), UnixMillis(1_795_000_000_000));
        let genesis = genesis.encode().unwrap();
        let stream = StreamId::of_genesis(&genesis);
        let claimed = self.claim(&stream, self.bob.did()).await;
        let package = &claimed["packages"][0];
        let bytes = |name: &str| serde_json::from_value::<Bytes>(package[name].clone()).unwrap().0;
        let (seed, key) = pair();
        let mut alice = Client::new(self.mallory.did.clone(), seed, key).unwrap();
        let (group_id, _) = alice.create_group().unwrap();
        let staged = alice.stage_add(&group_id, &[bytes("keyPackage")]).unwrap();
        let member = json!({ "account": self.mallory.did, "server": self.stranger.did, "role": "admin", "fromSeq": 1,
                             "devices": [{ "device": self.device, "fromSeq": 1 }] });
        let body = json!({
            "deliveryId": idem(), "to": self.bob.did(), "kind": "invitation", "stream": stream,
            "genesis": b64(&genesis), "lineage": [], "role": "member", "fromSeq": 4, "epoch": 1,
            "view": { "groupId": b64(&group_id), "cipherSuite": 1, "handshakePolicy": "opaque", "policy": "{}",
                      "members": [member] },
            "refs": [b64(&bytes("ref"))], "welcome": b64(&staged.welcome.unwrap()),
        });
        Invitation { stream, body }
    }

    pub async fn stop(self) {
        self.servers.stop().await;
    }
}

pub struct Invitation {
    pub stream: StreamId,
    pub body: Value,
}

impl Invitation {
    fn with(&self, name: &str, value: Value) -> Value {
        let mut body = self.body.clone();
        body["deliveryId"] = json!(idem());
        body[name] = value;
        body.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        body
    }
}

fn pair() -> ([u8; 32], [u8; 32]) {
    let seed: [u8; 32] = rand::random();
    let key = rookery::identity::SigningKey::from_bytes(Curve::Ed25519, &seed).unwrap();
    (seed, key.public().raw().try_into().unwrap())
}

#[expect(clippy::needless_pass_by_value, reason = "made by json! where it is called")]
fn word(foreign: &Foreign, kind: &str, more: Value) -> Value {
    let mut body = json!({ "deliveryId": idem(), "to": foreign.bob.did(), "kind": kind, "from": foreign.mallory.did });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_from_another_server_is_open_once_and_an_agreement_counts_only_where_somebody_asked() {
    let foreign = Foreign::start(&[("INVITATIONS", "contacts")]).await;
    let forged = foreign.deliver(word(&foreign, "relationship", json!({ "change": "accept" }))).await;
    assert_eq!(forged.body["state"], "accepted");
    assert_eq!(stands(&foreign).await, "none", "nobody becomes a contact by saying so");

    let ask = word(&foreign, "consentRequest", json!({ "note": b64(b"hello") }));
    let first = foreign.deliver(ask.clone()).await;
    assert_eq!((first.status, &first.body["state"]), (200, &json!("pending")));
    assert_eq!(foreign.deliver(ask.clone()).await.body, first.body, "the same answer, with the same position");
    assert_eq!(stands(&foreign).await, "incoming");
    let mut other = ask;
    other["note"] = b64(b"hello?");
    assert_eq!(foreign.deliver(other).await.outcome(), (409, "IdempotencyConflict"));

    let end = foreign.deliver(word(&foreign, "relationship", json!({ "change": "end" }))).await;
    assert_eq!(end.body["state"], "accepted");
    assert_eq!(stands(&foreign).await, "none");
    let unasked = word(&foreign, "relationship", json!({ "change": "request" }));
    assert_eq!(foreign.deliver(unasked.clone()).await.outcome(), (403, "ConsentRequired"));
    foreign.bob.invitations("everyone").await;
    assert_eq!(foreign.deliver(unasked).await.status, 200);
    foreign.stop().await;
}

async fn stands(foreign: &Foreign) -> String {
    use rookery::lexicon::account::list_relationships::{ListRelationships, Params};
    let params = Params { state: None, limit: 100, cursor: None };
    let listed = foreign.bob.query::<ListRelationships>(&params).await.unwrap().relationships;
    let found = listed.into_iter().find(|one| one.account == foreign.mallory.did);
    found.map_or("none".to_owned(), |one| one.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_for_its_own_accounts_and_to_those_that_live_here() {
    let foreign = Foreign::start(&[]).await;
    let alice = foreign.servers[0].person("alice").await;
    let mut body = word(&foreign, "consentRequest", json!({}));
    body["from"] = json!(alice.did());
    assert_eq!(foreign.deliver(body).await.outcome(), (403, "NotSpokenFor"));

    let mut nobody = word(&foreign, "consentRequest", json!({}));
    nobody["to"] = json!(foreign.mallory.did);
    assert_eq!(foreign.deliver(nobody.clone()).await.outcome(), (404, "NotHere"));
    let unregistered = foreign.servers[0].account();
    nobody["to"] = json!(unregistered.did);
    assert_eq!(foreign.deliver(nobody).await.outcome(), (404, "NotHere"));

    let carol = foreign.servers[0].person("carol").await;
    foreign.servers.directory.add_at(carol.account(), "http://localhost:1");
    foreign.servers[0].server().services().federation.look_again(carol.did()).await;
    let mut moved = word(&foreign, "consentRequest", json!({}));
    moved["to"] = json!(carol.did());
    assert_eq!(foreign.deliver(moved).await.outcome(), (409, "AccountMoved"));
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_taken_from_the_home_alone_for_packages_that_were_claimed_for_its_stream() {
    let foreign = Foreign::start(&[]).await;
    let invitation = foreign.invitation().await;
    for name in ["stream", "genesis", "view", "fromSeq", "epoch", "refs", "welcome"] {
        let answer = foreign.deliver(invitation.with(name, Value::Null)).await;
        assert_eq!(answer.outcome(), (400, "Malformed"), "without {name}");
    }
    let view = |from: u64| {
        let mut view = invitation.body["view"].clone();
        view["members"][0]["fromSeq"] = json!(from);
        view
    };
    for (name, value) in [
        ("welcome", b64(b"no Welcome")),
        ("refs", json!([b64(&[7; 32])])),
        ("view", view(4)),
        ("genesis", b64(b"no genesis")),
        ("stream", json!("sfqpona3sefnrzydeijvvzw6u54sydlha")),
    ] {
        assert_eq!(foreign.deliver(invitation.with(name, value)).await.outcome(), (400, "Malformed"), "{name}");
    }
    // Of another home, whatever this one says.
    let theirs = Genesis::new(StreamKind::Convo, "did:web:b.example", UnixMillis(1_795_000_000_000)).encode().unwrap();
    let mut forged = invitation.with("genesis", b64(&theirs));
    forged["stream"] = json!(StreamId::of_genesis(&theirs));
    assert_eq!(foreign.deliver(forged).await.outcome(), (403, "NotHome"));
    // For another stream of the same home.
    let other = foreign.invitation().await;
    let mut swapped = other.with("refs", invitation.body["refs"].clone());
    swapped["welcome"] = invitation.body["welcome"].clone();
    assert_eq!(foreign.deliver(swapped).await.outcome(), (400, "KeyPackageUnknown"));

    let taken = foreign.deliver(invitation.body.clone()).await;
    assert_eq!((taken.status, &taken.body["state"]), (200, &json!("accepted")), "{}", taken.body);
    assert_eq!(foreign.deliver(invitation.body.clone()).await.body, taken.body, "a repeat");
    let again = foreign.deliver(invitation.with("role", json!("admin"))).await;
    assert_eq!(again.outcome(), (400, "KeyPackageUnknown"), "it was used");
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_good_for_a_day_and_whoever_lost_consent_or_is_blocked_is_told_the_same() {
    let foreign = Foreign::start(&[]).await;
    let (late, unsure, blocked) = (foreign.invitation().await, foreign.invitation().await, foreign.invitation().await);
    let mut database = foreign.servers[0].database.connect().await;
    let age = "update key_package_claim set created_at = created_at - interval '1 day' where stream = $1";
    sqlx::query(age).bind(late.stream.as_str()).execute(&mut database).await.unwrap();
    assert_eq!(foreign.deliver(late.body).await.outcome(), (400, "KeyPackageUnknown"));

    foreign.bob.invitations("nobody").await;
    let waits = foreign.deliver(unsure.body.clone()).await;
    assert_eq!(waits.body["state"], "pending");
    let held = invitation::list_waiting(foreign.servers[0].server().services().storage.pool(), bob_row(&foreign).await);
    assert_eq!(held.await.unwrap()[0].stream, unsure.stream.as_str());

    let block = rookery::lexicon::account::set_block::Input { account: foreign.mallory.did.clone(), blocked: true };
    foreign.bob.procedure::<rookery::lexicon::account::set_block::SetBlock>(&block).await.unwrap();
    let silent = foreign.deliver(blocked.body.clone()).await;
    assert_eq!((silent.status, &silent.body["state"]), (waits.status, &waits.body["state"]), "as if it waited");
    let held = invitation::list_waiting(foreign.servers[0].server().services().storage.pool(), bob_row(&foreign).await);
    assert_eq!(held.await.unwrap().len(), 0);
    let ask = foreign.deliver(word(&foreign, "consentRequest", json!({}))).await;
    assert_eq!(ask.body["state"], "pending");
    assert_eq!(stands(&foreign).await, "none");
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_resort_package_is_used_ten_times_a_day_and_no_more() {
    let foreign = Foreign::start(&[]).await;
    // An inviter gets five that nobody else gets; what is claimed after them is of last resort.
    for number in 1..=15 {
        let taken = foreign.deliver(foreign.invitation().await.body).await;
        assert_eq!(taken.outcome(), (200, ""), "{number}: {}", taken.body);
    }
    assert_eq!(foreign.deliver(foreign.invitation().await.body).await.outcome(), (400, "KeyPackageUnknown"));
    let mut database = foreign.servers[0].database.connect().await;
    let one_more = "update key_package_claim set spent_at = spent_at - interval '1 day' where id = (
                        select max(id) from key_package_claim where spent_at is not null and not one_time
                    )";
    sqlx::query(one_more).execute(&mut database).await.unwrap();
    assert_eq!(foreign.deliver(foreign.invitation().await.body).await.status, 200, "tomorrow");
    foreign.stop().await;
}

async fn bob_row(foreign: &Foreign) -> i64 {
    let id = sqlx::query_scalar("select id from account where did = $1").bind(foreign.bob.did().as_str());
    id.fetch_one(&mut foreign.servers[0].database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_kind_or_change_is_answered_501() {
    let foreign = Foreign::start(&[]).await;
    for body in
        [word(&foreign, "typingIndicator", json!({})), word(&foreign, "relationship", json!({ "change": "mute" }))]
    {
        let answer = foreign.deliver(body).await;
        assert_eq!(answer.outcome(), (501, "KindNotImplemented"), "{}", answer.body);
    }
    foreign.stop().await;
}
