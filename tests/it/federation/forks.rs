//! A home that says two things about one number, or takes something back: to `blue.catbird.peer.replicate`, or elsewhere.

use rookery::lexicon::mls::send_message::{Input, SendMessage};
use rookery::log::body::{Body, ForkDetectedBody, HistoryRewoundBody};
use rookery::log::{EntryKind, StreamState};
use rookery::types::{Bytes, Clock, Seq};
use serde_json::json;

use crate::support::{BentHome, Chain, Following, SEATED, eventually, idem, json, no, refused, seq};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[tokio::test(flavor = "multi_thread")]
async fn two_entries_for_one_number_freeze_the_stream_with_a_proof_that_convinces_everybody() {
    let mut following = Following::seated().await;
    following.chain.messages(2);
    let mut bent = following.chain.clone();
    following.chain.messages(5);
    bent.messages(9);
    assert_eq!(seq(&following.replicates(5, 8).await), 8);
    assert_eq!(seq(&following.replicates(9, 11).await), 11);

    // Not at the end of what was sent before, and not at the end of what is sent now.
    let said = following.home.replicates(following.to(), &bent, 7, 12).await;
    assert_eq!(no(&said), (409, "EntryConflict"));
    assert_eq!(following.held().await, (StreamState::Frozen, 11), "what was held stays");
    let told = following.told("#forkDetected").await;
    assert_eq!(told.len(), 1);
    let body = ForkDetectedBody::decode(&told[0].body.as_ref().unwrap().0).unwrap();
    let key = following.home.keys.checkpoint.public();
    let fork = body.proof.verify(|home, _| (home == following.home.did.as_str()).then(|| key.clone())).unwrap();
    assert_eq!((fork.seq, &fork.stream), (Seq(7), following.chain.stream()), "at the first that differs and was shown");

    // Nothing is taken, and nothing is sent.
    following.chain.message();
    assert_eq!(no(&following.replicates(12, 12).await), (409, "StreamFrozen"));
    let message = Input { stream: following.chain.stream().to_string(), idem: idem(), ciphertext: Bytes(vec![1; 64]) };
    refused(following.bob.procedure::<SendMessage>(&message).await, 409, "StreamFrozen");
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_takes_back_what_it_sent_is_not_followed_into_its_new_history() {
    let mut following = Following::seated().await;
    following.chain.messages(4);
    assert_eq!(seq(&following.replicates(5, 8).await), 8);
    let mut rewound = following.chain.until(6);
    rewound.restore();
    rewound.messages(2);
    following.home.answers("showCheckpoint", 200, json!({ "state": "lost" }));
    let said = following.home.replicates(following.to(), &rewound, 7, 9).await;
    assert_eq!(no(&said), (409, "EntryConflict"));
    assert_eq!(following.held().await, (StreamState::Frozen, 8), "what is held stays");
    let told = following.told("#historyRewound").await;
    assert_eq!(told.len(), 1);
    let body = HistoryRewoundBody::decode(&told[0].body.as_ref().unwrap().0).unwrap();
    assert_eq!(body.restored.0, rewound.entries[6].header);
    assert_eq!(body.checkpoint, following.home.checkpoint(&following.chain, 8));
    assert!(following.told("#forkDetected").await.is_empty(), "it did not say two things under one term");
    eventually("the home is told", async || {
        following.home.asked("showCheckpoint").iter().any(|shown| shown["restored"] == json(&body.restored))
    })
    .await;
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_takes_nothing_back_is_followed() {
    let mut following = Following::seated().await;
    following.chain.messages(2);
    assert_eq!(seq(&following.replicates(5, 6).await), 6);
    for _ in 0..3 {
        following.chain.restore();
        following.chain.messages(1);
        let last = following.chain.len();
        assert_eq!(seq(&following.replicates(last - 1, last).await), last);
    }
    assert_eq!(following.held().await, (StreamState::Active, 12));
    assert!(following.told("#historyRewound").await.is_empty());
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_to_somebody_else_is_found_out_within_a_day() {
    let clock = Clock::manual(Clock::System.now());
    let mut following = Following::seated_at(clock.clone()).await;
    let witness = following.stranger().await;
    let mut bent = following.chain.clone();
    following.chain.messages(3);
    bent.messages(5);
    assert_eq!(seq(&following.replicates(5, 7).await), 7);
    witnesses(&following, &witness).await;
    let replicas = following.servers[0].server().services().replicas.clone();
    // The witness was told the same at first.
    let answer = |chain: &Chain, seq: u64| {
        let checkpoint = following.home.checkpoint(chain, chain.len());
        let headers: Vec<_> =
            chain.entries[usize::try_from(seq).unwrap()..].iter().map(|held| Bytes(held.header.clone())).collect();
        json!({ "checkpoint": checkpoint, "headers": headers })
    };
    witness.answers("getCheckpoint", 200, answer(&following.chain, 7));
    clock.advance_ms(DAY_MS + 1);
    replicas.look_at_everything().await;
    assert_eq!(following.held().await.0, StreamState::Active);
    assert_eq!(witness.asked("getCheckpoint").len(), 1);
    replicas.look_at_everything().await;
    assert_eq!(witness.asked("getCheckpoint").len(), 1, "once a day, and only with traffic");

    let mut more = following.chain.clone();
    more.messages(1);
    assert_eq!(seq(&following.home.replicates(following.to(), &more, 8, 8).await), 8);
    witness.answers("getCheckpoint", 200, answer(&bent, 8));
    clock.advance_ms(DAY_MS + 1);
    replicas.look_at_everything().await;
    assert_eq!(following.held().await.0, StreamState::Frozen);
    let told = following.told(EntryKind::ForkDetected.name()).await;
    assert_eq!(told.len(), 1);
    // The witness has a seat: it is shown the proof, too.
    witness.answers("reportFork", 200, json!({}));
    eventually("the witness is shown the proof", async || {
        clock.advance_ms(60_000);
        replicas.look_at_everything().await;
        !witness.asked("reportFork").is_empty()
    })
    .await;
    following.stop().await;
}

/// The other server has a seat in the stream, behind everybody's back.
async fn witnesses(following: &Following, witness: &BentHome) {
    sqlx::query(
        "with a as (insert into account (did, created_at) values ('did:plc:carol', now()) returning id)
         insert into seat (stream_id, account_id, from_seq, role, server)
         select s.id, a.id, $2, 1, $3 from a, stream s where s.public_id = $1",
    )
    .bind(following.chain.stream().as_str())
    .bind(i64::try_from(SEATED).unwrap())
    .bind(witness.did.as_str())
    .execute(&mut following.servers[0].database.connect().await)
    .await
    .unwrap();
}
