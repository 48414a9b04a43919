//! `blue.catbird.peer.getCheckpoint`: what a home signed for, from whoever holds it.

use rookery::identity::Signed;
use rookery::log::chain::Checkpoint;
use rookery::log::fork::lead_back;
use rookery::types::Bytes;
use serde_json::Value;

use crate::support::{Following, TwoServers, no};

fn read(answer: &Value) -> (Checkpoint, Vec<Bytes>) {
    let signed: Signed = serde_json::from_value(answer["checkpoint"].clone()).unwrap();
    (Checkpoint::of(&signed).unwrap(), serde_json::from_value(answer["headers"].clone()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_shows_the_next_checkpoint_and_the_headers_that_lead_to_it() {
    let mut following = Following::seated().await;
    following.chain.messages(1_600);
    // A checkpoint each ten entries; most are let go, and what is left is near enough.
    for from in (5..1_605).step_by(10) {
        assert_eq!(following.replicates(from, from + 9).await.0, 200);
    }
    let witness = following.stranger().await;
    let seats = "with a as (insert into account (did, created_at) values ('did:plc:carol', now()) returning id)
        insert into seat (stream_id, account_id, from_seq, role, server)
        select s.id, a.id, 1, 1, $1 from stream s, a where s.kind = 1";
    let mut database = following.servers[0].database.connect().await;
    sqlx::query(seats).bind(witness.did.as_str()).execute(&mut database).await.unwrap();
    let kept: i64 = sqlx::query_scalar("select count(*) from checkpoint").fetch_one(&mut database).await.unwrap();
    assert!((3..=5).contains(&kept), "{kept} checkpoints of 162");

    let stream = following.chain.stream().to_string();
    for seq in [4, 5, 300, 1_024, 1_200, 1_603] {
        let query = format!("stream={stream}&seq={seq}");
        let (status, answer) = witness.asks(following.to(), "getCheckpoint", &query).await;
        assert_eq!(status, 200, "{seq}: {answer}");
        let (checkpoint, headers) = read(&answer);
        let (at, hash) = lead_back(&checkpoint, &headers).unwrap();
        assert_eq!((at.0, hash), (seq, following.chain.head_at(seq).hash));
    }
    let (_, newest) = witness.asks(following.to(), "getCheckpoint", &format!("stream={stream}")).await;
    assert_eq!(read(&newest).0.seq.0, 1_604);
    for seq in [1, 1_605] {
        let query = format!("stream={stream}&seq={seq}");
        assert_eq!(no(&witness.asks(following.to(), "getCheckpoint", &query).await), (404, "NotHere"), "{seq}");
    }
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_signs_afresh_for_whoever_has_a_seat() {
    let two = TwoServers::followed().await;
    let witness = two.stranger().await;
    let stream = two.seat_of(&witness, 0).await;
    let to = (two.origin.as_str(), two.servers[0].did());
    let ask = async |query: String| witness.asks(to, "getCheckpoint", &query).await;
    let (status, newest) = ask(format!("stream={stream}")).await;
    assert_eq!(status, 200, "{newest}");
    let head = two.bob.entries(&stream, 0).await.unwrap().pop().unwrap();
    let (checkpoint, headers) = read(&newest);
    assert_eq!((checkpoint.seq.0, checkpoint.hash().to_vec(), headers.len()), (head.seq, head.hash.0, 0));
    let (_, second) = ask(format!("stream={stream}&seq=2")).await;
    assert_eq!(read(&second).0.seq.0, 2);
    assert_eq!(no(&ask(format!("stream={stream}&seq=99")).await), (404, "NotHere"));
    two.stop().await;
}
