//! The exchange of versions between servers, and the entries that a home writes by it.

use rookery::federation::{own_support, support_digest};
use rookery::log::{Draft, EntryKind, Error};
use rookery::types::Did;
use serde_json::{Value, json};

use crate::support::{Federation, TwoServers, eventually};

const FEATURE: &str = "test.future";

/// Entry kinds and features of a peer, as a server remembers them.
async fn remembered(servers: &Federation, server: usize, peer: &Did) -> Option<(Vec<String>, Vec<String>)> {
    let found = "select entry_kinds, features from peer_support where server = $1";
    let mut connection = servers[server].database.connect().await;
    sqlx::query_as(found).bind(peer.as_str()).fetch_optional(&mut connection).await.unwrap()
}

async fn change(servers: &Federation, server: usize, statement: &'static str) {
    let done = sqlx::query(statement).execute(&mut servers[server].database.connect().await).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_tell_each_other_their_version_by_following() {
    let two = TwoServers::followed().await;
    for (server, peer) in [(0, 1), (1, 0)] {
        let peer = two.servers[peer].did();
        let (kinds, features) = remembered(&two.servers, server, peer).await.expect("the peer's version");
        assert_eq!((kinds, features), (own_support().entry_kinds, own_support().features));
    }
    let told: String = sqlx::query_scalar("select told from peer_support")
        .fetch_one(&mut two.servers[1].database.connect().await)
        .await
        .unwrap();
    assert_eq!(told, support_digest(&own_support()));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_version_is_told_to_homes_without_a_new_follow() {
    let two = TwoServers::followed().await;
    // Another version of the follower sent the home a smaller `support`.
    change(&two.servers, 0, "update peer_support set entry_kinds = '{}'").await;
    let replicas = &two.servers[1].server().services().replicas;
    replicas.look_at_everything().await;
    let known = async || remembered(&two.servers, 0, two.servers[1].did()).await.unwrap().0;
    assert_eq!(known().await, Vec::<String>::new(), "the home already knows this version");
    change(&two.servers, 1, "update peer_support set told = 'of another version'").await;
    replicas.look_at_everything().await;
    eventually("the home hears of the version", async || known().await == own_support().entry_kinds).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_waits_until_every_follower_knows_it() {
    let two = TwoServers::start().await;
    let stranger = two.stranger().await;
    let stream = two.seat_of(&stranger, 0).await;
    let to = (two.origin.as_str(), two.servers[0].did());
    let follow = async |support: Option<Value>| {
        let mut input = json!({ "stream": stream, "from": 1 });
        if let Some(support) = support {
            input["support"] = support;
        }
        let (status, answer) = stranger.calls(to, "follow", &input).await;
        assert_eq!((status, &answer["support"]["version"]), (200, &json!(env!("CARGO_PKG_VERSION"))), "{answer}");
    };
    let append = async || {
        let log = &two.servers[0].server().services().log;
        let info = log.find_stream(&stream).await.unwrap().unwrap();
        let mut tx = log.lock(info.id).await.unwrap();
        let by = tx.on_behalf(two.alice.did()).await.unwrap();
        let draft = Draft { kind: EntryKind::Message, epoch: None, body: b"later".to_vec(), identity: None };
        tx.append_requiring(&by, draft, FEATURE).await.map(drop)
    };
    append().await.expect("no server follows");

    let knows = |features: &[&str]| json!({ "version": "9.0.0", "protocolVersion": 2, "entryKinds": ["#later"], "deliveryKinds": [], "features": features });
    for support in [None, Some(knows(&["test.other"]))] {
        follow(support).await;
        match append().await {
            Err(Error::FollowersOutdated(servers)) => assert_eq!(servers, [stranger.did.to_string()]),
            other => panic!("{other:?}"),
        }
    }
    follow(Some(knows(&["test.other", FEATURE]))).await;
    append().await.expect("the follower knows the feature");
    // A rollback of the follower.
    follow(None).await;
    assert!(matches!(append().await, Err(Error::FollowersOutdated(_))));
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_an_upgraded_peer_are_due_at_once() {
    let two = TwoServers::start().await;
    let stranger = two.stranger().await;
    let stream = two.seat_of(&stranger, 0).await;
    let insert = "insert into delivery (public_id, peer, account, kind, body, refs, created_at, due_at)
                  values ('a-delivery-of-the-test', $1, 'did:plc:stranger', 'relationship', '{}', '{}', now(), now() + interval '6 hours')";
    let mut connection = two.servers[0].database.connect().await;
    sqlx::query(insert).bind(stranger.did.as_str()).execute(&mut connection).await.unwrap();
    let attempted = async || {
        sqlx::query_scalar::<_, i16>("select attempts from delivery")
            .fetch_one(&mut two.servers[0].database.connect().await)
            .await
            .unwrap()
            > 0
    };
    let to = (two.origin.as_str(), two.servers[0].did());
    let follow = json!({ "stream": stream, "from": 1, "support": {
        "version": "9.0.0", "protocolVersion": 1, "entryKinds": [], "deliveryKinds": ["later"], "features": [] } });
    assert!(!attempted().await);
    assert_eq!(stranger.calls(to, "follow", &follow).await.0, 200);
    eventually("the delivery is tried", attempted).await;
    // An unchanged `support` makes nothing due.
    sqlx::query("update delivery set attempts = 0, state = 'waiting', due_at = now() + interval '6 hours'")
        .execute(&mut connection)
        .await
        .unwrap();
    assert_eq!(stranger.calls(to, "follow", &follow).await.0, 200);
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    assert!(!attempted().await);
    two.stop().await;
}
