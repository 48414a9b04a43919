//! `blue.catbird.peer.reportFork`: a proof convinces, whoever shows it; anything else does not.

use rookery::identity::{Curve, SigningKey};
use rookery::log::{EntryKind, ForkProof, StreamState};
use rookery::types::{Bytes, Clock};
use serde_json::{Value, json};

use crate::support::{BentHome, Chain, Following, no};

fn proof(home: &BentHome, a: &Chain, b: &Chain, base: u64) -> ForkProof {
    let headers = |chain: &Chain| {
        chain.entries[usize::try_from(base).unwrap()..].iter().map(|held| Bytes(held.header.clone())).collect()
    };
    ForkProof {
        a: home.checkpoint(a, a.len()),
        a_headers: headers(a),
        b: home.checkpoint(b, b.len()),
        b_headers: headers(b),
    }
}

fn report(chain: &Chain, proof: &ForkProof) -> Value {
    json!({ "stream": chain.stream(), "proof": proof })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_a_stranger_shows_freezes_the_stream_and_anything_less_does_not() {
    let following = Following::seated().await;
    let (home, to) = (&following.home, following.to());
    let (mut a, mut b) = (following.chain.clone(), following.chain.clone());
    a.messages(2);
    b.messages(3);
    let good = proof(home, &a, &b, 5);
    let stranger = following.stranger().await;

    let mut forged = good.clone();
    forged.b = stranger.sign(&b.head);
    let mut others = Chain::found(home);
    others.messages(3);
    let mut bent = others.clone();
    others.message();
    bent.message();
    let bad = [
        proof(home, &a, &a, 5),
        proof(home, &a, &b, 4),
        forged,
        ForkProof { b: good.a.clone(), ..good.clone() },
        proof(home, &others, &bent, 7),
        proof(&stranger, &a, &b, 5),
    ];
    for (number, proof) in bad.iter().enumerate() {
        let said = stranger.calls(to, "reportFork", &report(&following.chain, proof)).await;
        assert_eq!(no(&said), (400, "NoFork"), "{number}");
    }
    let unknown = stranger.calls(to, "reportFork", &report(&others, &good)).await;
    assert_eq!(no(&unknown), (404, "StreamNotFound"));
    assert_eq!(following.held().await.0, StreamState::Active);

    for _ in 0..2 {
        assert_eq!(stranger.calls(to, "reportFork", &report(&following.chain, &good)).await.0, 200);
    }
    assert_eq!(following.held().await.0, StreamState::Frozen);
    assert_eq!(following.told(EntryKind::ForkDetected.name()).await.len(), 1, "once");
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_left_the_homes_document_prove_no_fork() {
    let clock = Clock::manual(Clock::System.now());
    let following = Following::seated_at(clock.clone()).await;
    let (home, to) = (&following.home, following.to());
    let (mut a, mut b) = (following.chain.clone(), following.chain.clone());
    a.messages(2);
    b.messages(3);
    let stolen = proof(home, &a, &b, 5);
    home.retires_its_checkpoint_key(&SigningKey::generate(Curve::Ed25519));
    clock.advance_ms(2 * 60 * 60 * 1000);
    let stranger = following.stranger().await;
    let said = stranger.calls(to, "reportFork", &report(&following.chain, &stolen)).await;
    assert_eq!(no(&said), (400, "NoFork"));
    assert_eq!(following.held().await.0, StreamState::Active);
    following.stop().await;
}
