//! What a home signed for and does not send.

use rookery::log::body::{Body, ReceiptBrokenBody};
use rookery::log::{EntryKind, StreamState};
use rookery::types::Clock;

use crate::support::{Following, seq};

const MINUTE_MS: i64 = 60_000;

async fn account(following: &Following) -> i64 {
    sqlx::query_scalar("select id from account where did = $1")
        .bind(following.bob.did().as_str())
        .fetch_one(&mut following.servers[0].database.connect().await)
        .await
        .unwrap()
}

async fn remembered(following: &Following) -> i64 {
    sqlx::query_scalar("select count(*) from receipt")
        .fetch_one(&mut following.servers[0].database.connect().await)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_is_kept_is_forgotten_and_one_that_is_not_is_told_once() {
    let clock = Clock::manual(Clock::System.now());
    let mut following = Following::seated_at(clock.clone()).await;
    let replicas = following.servers[0].server().services().replicas.clone();
    let bob = account(&following).await;
    following.chain.messages(3);
    for promised in [5, 6] {
        replicas.remember_receipt(bob, &following.home.checkpoint(&following.chain, promised)).await.unwrap();
    }
    assert_eq!(seq(&following.replicates(5, 5).await), 5);
    replicas.look_at_everything().await;
    assert_eq!(remembered(&following).await, 1, "the first was kept");

    // While the home cannot be reached, it has time.
    clock.advance_ms(60 * MINUTE_MS);
    replicas.look_at_everything().await;
    assert!(following.told(EntryKind::ReceiptBroken.name()).await.is_empty());
    assert_eq!(seq(&following.replicates(5, 5).await), 5, "it is heard again");
    clock.advance_ms(4 * MINUTE_MS);
    assert_eq!(seq(&following.replicates(5, 5).await), 5);
    replicas.look_at_everything().await;
    assert!(following.told(EntryKind::ReceiptBroken.name()).await.is_empty());
    clock.advance_ms(4 * MINUTE_MS);
    assert_eq!(seq(&following.replicates(5, 5).await), 5);
    clock.advance_ms(3 * MINUTE_MS);
    for _ in 0..2 {
        replicas.look_at_everything().await;
    }
    let told = following.told(EntryKind::ReceiptBroken.name()).await;
    assert_eq!(told.len(), 1);
    let body = ReceiptBrokenBody::decode(&told[0].body.as_ref().unwrap().0).unwrap();
    assert_eq!(body.receipt, following.home.checkpoint(&following.chain, 6));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_is_contradicted_convicts_the_home() {
    let mut following = Following::seated().await;
    let replicas = following.servers[0].server().services().replicas.clone();
    let mut bent = following.chain.clone();
    bent.messages(2);
    following.chain.messages(3);
    let promised = following.home.checkpoint(&bent, 6);
    replicas.remember_receipt(account(&following).await, &promised).await.unwrap();
    assert_eq!(seq(&following.replicates(5, 7).await), 7);
    replicas.look_at_everything().await;
    assert_eq!(following.held().await.0, StreamState::Frozen);
    assert_eq!(following.told(EntryKind::ForkDetected.name()).await.len(), 1);
    following.stop().await;
}
