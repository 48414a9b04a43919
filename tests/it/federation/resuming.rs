//! Resumption of stopped streams.

use std::time::Duration;

use rookery::types::{Clock, Seq};

use crate::support::{Following, SEATED, TwoServers, eventually, no, row, seq};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// A clock that runs like the system's and that the test can advance, so that pauses end without waiting. The clock
/// stands still once the task is aborted.
fn running() -> (Clock, tokio::task::JoinHandle<()>) {
    const TICK_MS: i64 = 20;
    let clock = Clock::manual(Clock::System.now());
    let ticking = clock.clone();
    let ticks = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS.unsigned_abs()));
        loop {
            ticks.tick().await;
            ticking.advance_ms(TICK_MS);
        }
    });
    (clock, ticks)
}

async fn look(two: &TwoServers, server: usize) {
    two.servers[server].server().services().replicas.look_at_everything().await;
}

async fn followers(two: &TwoServers) -> i64 {
    let count = sqlx::query_scalar("select count(*) from follower");
    count.fetch_one(&mut two.servers[0].database.connect().await).await.unwrap()
}

/// The number of messages that the follower holds with their contents.
async fn held(two: &TwoServers) -> i64 {
    let count = sqlx::query_scalar("select count(content) from entry_content where kind = 4");
    count.fetch_one(&mut two.servers[1].database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_off_for_31_days_resumes() {
    let (clock, _) = running();
    let mut two = TwoServers::start_at(clock.clone(), &[]).await;
    two.invite(&two.stream).await;
    let further = two.another().await;
    two.servers[1].pause().await;
    for stream in [&two.stream, &further] {
        crate::support::send_many(&two.servers[0], stream, &two.alice, 1).await;
    }
    eventually("the home has tried", async || {
        let failing = sqlx::query_scalar::<_, i64>("select count(*) from follower_peer");
        failing.fetch_one(&mut two.servers[0].database.connect().await).await.unwrap() == 1
    })
    .await;
    clock.advance_ms(31 * DAY_MS);
    look(&two, 0).await;
    assert_eq!(followers(&two).await, 0, "the home has given the follower up");

    let bob = std::sync::Arc::clone(&two.bob);
    two.servers[1].resume(&[&bob]).await;
    for stream in [&two.stream, &further] {
        crate::support::send_many(&two.servers[0], stream, &two.alice, 1).await;
    }
    // The follower asks its silent home for a checkpoint, and then for its streams.
    look(&two, 1).await;
    look(&two, 1).await;
    eventually("both streams go on", async || held(&two).await == 4).await;
    assert_eq!(followers(&two).await, 2);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_its_home_forgot_is_followed_within_a_week() {
    let (clock, _) = running();
    let two = TwoServers::start_at(clock.clone(), &[]).await;
    two.invite(&two.stream).await;
    let further = two.another().await;
    let mut home = two.servers[0].database.connect().await;
    let forget = "delete from follower f using stream s where s.id = f.stream_id and s.public_id = $1";
    sqlx::query(forget).bind(&two.stream).execute(&mut home).await.unwrap();
    crate::support::send_many(&two.servers[0], &two.stream, &two.alice, 1).await;
    // The home is not silent: it goes on with the other stream.
    for day in 1..=8_i64 {
        clock.advance_ms(DAY_MS - MINUTE_MS);
        crate::support::send_many(&two.servers[0], &further, &two.alice, 1).await;
        eventually("the further stream goes on", async || {
            let (at_home, here) = (row(&two.servers[0], &further).await, row(&two.servers[1], &further).await);
            at_home.map(|row| row.head_seq) == here.map(|row| row.head_seq)
        })
        .await;
        look(&two, 1).await;
        if day < 7 {
            assert_eq!(followers(&two).await, 1, "day {day}");
        }
    }
    eventually("the forgotten stream goes on", async || held(&two).await == 9).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_the_clock_does_not_allow_yet_is_kept() {
    let (clock, ticks) = running();
    let mut two = TwoServers::start_at(clock.clone(), &[]).await;
    two.invite(&two.stream).await;
    ticks.abort();
    two.servers[1].pause().await;
    crate::support::send_many(&two.servers[0], &two.stream, &two.alice, 1).await;
    eventually("the home has tried", async || {
        let failing = sqlx::query_scalar::<_, i64>("select count(*) from follower_peer");
        failing.fetch_one(&mut two.servers[0].database.connect().await).await.unwrap() == 1
    })
    .await;
    let bob = std::sync::Arc::clone(&two.bob);
    two.servers[1].resume(&[&bob]).await;
    // The pause of at most a second is over by the timer, and not by the clock.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(held(&two).await, 0);
    clock.advance_ms(MINUTE_MS);
    eventually("the retry is made", async || held(&two).await == 1).await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_stream_is_followed_again_after_growing_pauses() {
    let clock = Clock::manual(Clock::System.now());
    let mut following = Following::seated_at(clock.clone()).await;
    following.chain.messages(2);
    following.home.offers(&following.chain, SEATED + 1);
    let mut bad = following.home.part(&following.chain, 5, 6);
    bad.checkpoint.sig.0[0] ^= 1;
    let look = async || following.servers[0].server().services().replicas.look_at_everything().await;
    let asked = || following.home.asked("follow").len();
    let before = asked();
    // The second pause is twice as long as the first.
    for (round, minutes) in [(1, 1), (2, 2)] {
        for _ in 0..3 {
            assert_eq!(no(&following.home.hands(following.to(), &bad).await), (400, "CheckpointInvalid"));
        }
        clock.advance_ms(minutes * MINUTE_MS / 2 - 1_000);
        look().await;
        assert_eq!(asked(), before + round - 1, "not before the pause is over");
        clock.advance_ms(minutes * MINUTE_MS / 2 + 2_000);
        look().await;
        assert_eq!(asked(), before + round);
    }
    assert_eq!(seq(&following.replicates(5, 6).await), 6);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_resumes_a_stopped_stream_at_once() {
    let mut following = Following::seated().await;
    following.chain.messages(2);
    following.home.offers(&following.chain, SEATED + 1);
    let mut bad = following.home.part(&following.chain, 5, 6);
    bad.checkpoint.sig.0[0] ^= 1;
    for what in [following.chain.stream().to_string(), following.home.did.to_string()] {
        for _ in 0..3 {
            assert_eq!(no(&following.home.hands(following.to(), &bad).await), (400, "CheckpointInvalid"));
        }
        assert_eq!(no(&following.replicates(5, 6).await), (400, "CheckpointInvalid"), "nothing more is taken");
        let asked = following.home.asked("follow").len();
        let (said, well) = following.servers[0].command(&["peer", "resume", &what]).await;
        assert!(well && said.contains(following.chain.stream().as_str()), "{said}");
        following.servers[0].server().services().replicas.look_at_everything().await;
        assert_eq!(following.home.asked("follow").len(), asked + 1);
    }
    assert_eq!(seq(&following.replicates(5, 6).await), 6);
    let (said, well) = following.servers[0].command(&["peer", "resume", "nowhere.example"]).await;
    assert!(well && said.contains("0 streams"), "{said}");
    assert_eq!(Seq(6), Seq(following.held().await.1));
    following.stop().await;
}
