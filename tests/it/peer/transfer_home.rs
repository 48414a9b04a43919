//! `blue.catbird.peer.transferHome`: what a server says that it would take over, and what it would not.

use rookery::federation::replica::Transfer;
use rookery::identity::Signed;
use rookery::log::StreamState;
use rookery::log::acceptance::{ACCEPTANCE_LABEL, Acceptance};
use rookery::log::chain::encode;
use rookery::log::lineage::LineageLink;
use rookery::types::{Bytes, Hash, Seq};
use serde::Serialize;
use serde_json::json;

use crate::support::bent::Said;
use crate::support::{BentHome, Chain, Following, SEATED, no};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    v: u8,
    group_infos: [u8; 0],
    keys: [u8; 0],
    callers: [u8; 0],
    calls: [u8; 0],
    lineage: Vec<LineageLink>,
}

fn snapshot(lineage: Vec<LineageLink>) -> Vec<u8> {
    let snapshot = Snapshot { v: 1, group_infos: [], keys: [], callers: [], calls: [], lineage };
    encode(&snapshot, "snapshot").unwrap()
}

fn offer(chain: &Chain) -> Transfer {
    Transfer::of(&chain.head, snapshot(Vec::new()))
}

async fn says(home: &BentHome, following: &Following, transfer: &Transfer) -> Said {
    let body = transfer.encode().unwrap();
    home.posts(following.to(), "transferHome", "application/vnd.ipld.dag-cbor", body).await
}

/// What the home answers who asks for what was before Bob came.
fn tells_the_beginning(home: &BentHome, chain: &Chain) {
    let entry = |held: &rookery::log::Held| json!({ "header": Bytes(held.header.clone()), "content": held.content.clone().map(Bytes) });
    let entries: Vec<_> = chain.entries[..usize::try_from(SEATED - 1).unwrap()].iter().map(entry).collect();
    let prev = Bytes(Hash::ZERO.to_vec());
    let (stream, term) = (chain.stream(), chain.head.term);
    let body = json!({ "stream": stream, "term": term, "from": 1, "prev": prev, "entries": entries, "more": true });
    home.answers("getEntries", 200, body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_taken_over_as_it_stands_by_a_server_that_holds_all_of_it_and_by_no_other() {
    let mut following = Following::seated().await;
    let good = offer(&following.chain);
    assert_eq!(no(&says(&following.home, &following, &good).await), (409, "ReplicaBehind"), "it holds no beginning");
    tells_the_beginning(&following.home, &following.chain);
    let replicas = following.servers[0].server().services().replicas.clone();
    replicas.look_at_everything().await;
    let elsewhere = Transfer { seq: Seq(good.seq.0 + 1), ..good.clone() };
    assert_eq!(no(&says(&following.home, &following, &elsewhere).await), (409, "ReplicaBehind"));

    let said = says(&following.home, &following, &good).await;
    assert_eq!(said.0, 200, "{}", said.1);
    let signed: Signed = serde_json::from_value(said.1["acceptance"].clone()).unwrap();
    let acceptance = Acceptance::of(&signed).unwrap();
    let parties = (&acceptance.from, &acceptance.to);
    assert_eq!(parties, (&following.home.did, following.servers[0].did()));
    assert_eq!((acceptance.term, acceptance.seq), (good.term, good.seq));
    assert_eq!(acceptance.snapshot.as_slice(), Hash::of(&good.snapshot.0).as_slice());
    let key = following.servers[0].server().services().federation.verify_statement(
        following.servers[0].did(),
        ACCEPTANCE_LABEL,
        &signed,
    );
    assert!(key.await.is_ok());
    // Nothing follows from that alone.
    following.chain.message();
    let at = following.chain.len();
    following.replicates(at, at).await;
    assert_eq!(following.held().await, (StreamState::Active, at));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_by_another_or_does_not_hold_together_is_refused_by_its_name() {
    let following = Following::seated().await;
    let (home, chain, to) = (&following.home, &following.chain, following.to());
    tells_the_beginning(home, chain);
    let good = offer(chain);
    assert_eq!(no(&says(home, &following, &good).await).1, "ReplicaBehind");
    following.servers[0].server().services().replicas.look_at_everything().await;

    let stranger = following.stranger().await;
    assert_eq!(no(&says(&stranger, &following, &good).await), (403, "NotHome"));
    let unknown = offer(&Chain::found(home));
    assert_eq!(no(&says(home, &following, &unknown).await), (404, "StreamNotFound"));
    let garbage = home.posts(to, "transferHome", "application/vnd.ipld.dag-cbor", b"garbage".to_vec()).await;
    assert_eq!(no(&garbage), (400, "Malformed"));
    let empty = Transfer { snapshot: Bytes(b"garbage".to_vec()), ..good.clone() };
    assert_eq!(no(&says(home, &following, &empty).await), (400, "Malformed"));
    // A lineage that leads to another reign, and one that the home did not sign.
    let mut restored = chain.clone();
    restored.restore();
    let link = |sign: &BentHome| {
        let held = restored.entries.last().unwrap();
        let checkpoint = sign.checkpoint(&restored, restored.len());
        LineageLink { header: Bytes(held.header.clone()), content: Bytes(held.content.clone().unwrap()), checkpoint }
    };
    let other = Transfer { snapshot: Bytes(snapshot(vec![link(home)])), ..good.clone() };
    assert_eq!(no(&says(home, &following, &other).await), (400, "Malformed"));
    home.replicates(to, &restored, restored.len(), restored.len()).await;
    let mut forged = link(home);
    forged.checkpoint.sig.0[0] ^= 1;
    let forged = Transfer::of(&restored.head, snapshot(vec![forged]));
    assert_eq!(no(&says(home, &following, &forged).await), (400, "CheckpointInvalid"));
    let sound = Transfer::of(&restored.head, snapshot(vec![link(home)]));
    assert_eq!(says(home, &following, &sound).await.0, 200);

    // This server already orders another conversation of that group: one of a single member gives way.
    let own = following.bob.create_convo().await.unwrap();
    let taken = "update convo set group_id = $2 where stream_id = (select id from stream where public_id = $1)";
    let mut database = following.servers[0].database.connect().await;
    sqlx::query(taken).bind(&own).bind(&chain.group_id).execute(&mut database).await.unwrap();
    assert_eq!(says(home, &following, &sound).await.0, 200);
    let joined = "insert into seat (stream_id, account_id, from_seq, role, server)
                  select s.id, (select min(id) from account where did <> $2), 3, 1, s.home from stream s where public_id = $1";
    let joined = sqlx::query(joined).bind(&own).bind(following.bob.did().as_str());
    joined.execute(&mut database).await.unwrap();
    assert_eq!(no(&says(home, &following, &sound).await), (403, "TransferRefused"));
    let frozen = "update stream set state = 4 where public_id = $1";
    sqlx::query(frozen).bind(chain.stream().as_str()).execute(&mut database).await.unwrap();
    assert_eq!(no(&says(home, &following, &sound).await), (409, "StreamFrozen"));
    following.stop().await;
}
