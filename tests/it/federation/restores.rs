//! A home, or a follower, whose database went back in time.

use std::time::Duration;

use rookery::log::StreamState;

use crate::support::{TwoServers, eventually};

/// Tokens from before a restore are refused for a second or so.
const TOKENS: Duration = Duration::from_millis(2_500);

async fn state(two: &TwoServers, server: usize) -> (StreamState, u64, u64) {
    let log = &two.servers[server].server().services().log;
    let info = log.find_stream(&two.stream).await.unwrap().unwrap();
    let row = log.row(info.id).await.unwrap();
    (row.state, row.term.0, row.head_seq.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_took_from_a_home_comes_back_from_its_follower_under_a_new_term() {
    let mut two = TwoServers::followed().await;
    two.alice.send(&two.stream, b"kept").await.unwrap();
    two.caught_up(&two.stream).await;
    let (_, term, kept) = state(&two, 0).await;
    let people = [std::sync::Arc::clone(&two.alice)];
    two.servers[0].pause().await;
    let backup = two.servers[0].database.copy().await;
    two.servers[0].resume(&[&people[0]]).await;
    for _ in 0..5 {
        two.alice.send(&two.stream, b"lost").await.unwrap();
    }
    two.caught_up(&two.stream).await;
    let lost = two.bob.entries(&two.stream, 0).await.unwrap();

    two.servers[0].pause().await;
    two.servers[0].database.become_copy_of(&backup).await;
    let (said, well) = two.servers[0].command(&["recover"]).await;
    assert!(well, "{said}");
    two.servers[0].resume(&[&people[0]]).await;
    eventually("the stream goes on", async || state(&two, 0).await.0 == StreamState::Active).await;
    two.caught_up(&two.stream).await;
    let (_, new_term, head) = state(&two, 0).await;
    assert_eq!(head, kept + 5 + 1, "everything, and the entry that opens the new term");
    assert!(new_term > term);
    let again = two.bob.entries(&two.stream, 0).await.unwrap();
    assert_eq!(again[..lost.len()], lost[..]);
    assert_eq!(again.last().unwrap().kind, "#homeRestored");
    tokio::time::sleep(TOKENS).await;
    two.alice.send(&two.stream, b"on").await.unwrap();
    two.caught_up(&two.stream).await;
    assert_eq!(state(&two, 1).await.0, StreamState::Active);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_goes_on_without_a_follower_that_holds_more_is_not_followed_any_more() {
    let mut two = TwoServers::followed().await;
    let alice = std::sync::Arc::clone(&two.alice);
    two.servers[0].pause().await;
    let backup = two.servers[0].database.copy().await;
    two.servers[0].resume(&[&alice]).await;
    for _ in 0..3 {
        two.alice.send(&two.stream, b"lost").await.unwrap();
    }
    two.caught_up(&two.stream).await;
    let before = two.bob.entries(&two.stream, 0).await.unwrap();

    // It cannot be asked for longer than the home waits.
    two.servers[1].pause().await;
    two.servers[0].pause().await;
    two.servers[0].database.become_copy_of(&backup).await;
    let (said, well) = two.servers[0].command(&["recover"]).await;
    assert!(well, "{said}");
    two.servers[0].resume(&[&alice]).await;
    assert_eq!(state(&two, 0).await.0, StreamState::Recovering);
    eventually("the wait runs out", async || state(&two, 0).await.0 == StreamState::Active).await;
    let bob = std::sync::Arc::clone(&two.bob);
    two.servers[1].resume(&[&bob]).await;
    two.alive().await;
    eventually("the follower stops", async || state(&two, 1).await.0 == StreamState::Frozen).await;
    assert_eq!(two.bob.entries(&two.stream, 0).await.unwrap(), before, "it keeps what it holds");
    two.servers[1].settled().await;
    let told = crate::support::told(&two.bob, "#historyRewound").await;
    assert_eq!(told.len(), 1);

    // The stream does not thaw by itself; the follower's operator accepts the rewind.
    let accept = async || two.servers[1].command(&["peer", "accept-rewind", &two.stream]).await;
    let (said, well) = accept().await;
    assert!(well && said.contains("3 entries beyond 4"), "{said}");
    two.servers[1].server().services().replicas.look_at_everything().await;
    two.caught_up(&two.stream).await;
    let after = two.bob.entries(&two.stream, 0).await.unwrap();
    assert_eq!(after[..1], before[..1], "what the home still has");
    assert_eq!(after[1].kind, "#homeRestored");
    let kept = "select count(*) from evidence where kind = 4";
    let kept: i64 = sqlx::query_scalar(kept).fetch_one(&mut two.servers[1].database.connect().await).await.unwrap();
    assert_eq!(kept, 1, "what was given up");
    tokio::time::sleep(TOKENS).await;
    two.alice.send(&two.stream, b"on").await.unwrap();
    two.caught_up(&two.stream).await;
    assert_eq!(two.bob.convo(&two.stream).await.unwrap().members.len(), 2);
    let (said, well) = accept().await;
    assert!(!well && said.contains("not frozen by a rewind"), "{said}");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_went_back_follows_from_its_own_head() {
    let mut two = TwoServers::followed().await;
    let bob = std::sync::Arc::clone(&two.bob);
    two.servers[1].pause().await;
    let backup = two.servers[1].database.copy().await;
    two.servers[1].resume(&[&bob]).await;
    for _ in 0..4 {
        two.alice.send(&two.stream, b"more").await.unwrap();
    }
    two.caught_up(&two.stream).await;
    let before = two.bob.entries(&two.stream, 0).await.unwrap();
    two.servers[1].pause().await;
    two.servers[1].database.become_copy_of(&backup).await;
    let (said, well) = two.servers[1].command(&["recover"]).await;
    assert!(well, "{said}");
    two.servers[1].resume(&[&bob]).await;
    two.caught_up(&two.stream).await;
    assert_eq!(two.bob.entries(&two.stream, 0).await.unwrap(), before);
    two.stop().await;
}
