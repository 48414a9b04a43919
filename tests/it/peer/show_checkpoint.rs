//! `blue.catbird.peer.showCheckpoint`: a home is shown what it signed.

use rookery::log::chain::{CHECKPOINT_LABEL, Checkpoint};
use rookery::log::{Head, StreamState};
use rookery::types::{Hash, Seq, StreamId};
use serde_json::json;

use crate::support::{TwoServers, eventually, no, state};

#[tokio::test(flavor = "multi_thread")]
async fn its_own_word_beyond_its_log_stops_a_stream_and_anybody_else_s_does_not() {
    let two = TwoServers::followed().await;
    let witness = two.stranger().await;
    let stream = two.seat_of(&witness, 0).await;
    let to = (two.origin.as_str(), two.servers[0].did());
    let services = two.servers[0].server().services();
    let info = services.log.find_stream(&stream).await.unwrap().unwrap();
    let row = async || services.log.row(info.id).await.unwrap();
    let head = row().await.head();
    let sign = |head: &Head| {
        let statement = Checkpoint::new(services.log.home().as_str(), head).statement().unwrap();
        services.federation.sign_statement(CHECKPOINT_LABEL, statement)
    };
    let show =
        async |signed| witness.calls(to, "showCheckpoint", &json!({ "stream": stream, "checkpoint": signed })).await;

    assert_eq!(state(&show(sign(&head)).await), "known");
    let ahead = Head { seq: Seq(head.seq.0 + 3), hash: Hash([9; 32]), ..head.clone() };
    assert_eq!(no(&show(witness.sign(&ahead)).await), (400, "CheckpointInvalid"));
    let other = Head { stream: StreamId::parse("scwfgagcsyqhmdj7pbehnj6jvili52f63").unwrap(), ..ahead.clone() };
    assert_eq!(no(&show(sign(&other)).await), (400, "CheckpointInvalid"));
    let mut forged = sign(&ahead);
    forged.sig.0[3] ^= 1;
    assert_eq!(no(&show(forged).await), (400, "CheckpointInvalid"));
    assert_eq!(row().await.state, StreamState::Active);

    assert_eq!(state(&show(sign(&ahead)).await), "recovering");
    // Nobody holds it: the stream goes on under a term in which it was never promised.
    eventually("the stream goes on", async || row().await.state == StreamState::Active).await;
    assert!(row().await.term > head.term);
    assert_eq!(state(&show(sign(&ahead)).await), "lost");
    let to_follower = two.servers[1].proxy.origin();
    two.seat_of(&witness, 1).await;
    let said = witness
        .calls(
            (&to_follower, two.servers[1].did()),
            "showCheckpoint",
            &json!({ "stream": stream, "checkpoint": sign(&head) }),
        )
        .await;
    assert_eq!(no(&said), (403, "NotHome"));
    let unknown = json!({ "stream": "scwfgagcsyqhmdj7pbehnj6jvili52f63", "checkpoint": sign(&head) });
    assert_eq!(no(&witness.calls(to, "showCheckpoint", &unknown).await), (404, "StreamNotFound"));
    two.stop().await;
}
