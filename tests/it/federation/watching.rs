//! What is looked at from time to time: homes that fell silent or went back, and what is over.

use std::sync::atomic::Ordering;

use rookery::types::{Clock, Seq};
use serde_json::json;

use crate::support::{Following, SEATED, eventually, state};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

async fn look(following: &Following) {
    following.servers[0].server().services().replicas.look_at_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_was_silent_for_an_hour_is_asked_for_a_checkpoint_and_not_again_for_another() {
    let clock = Clock::manual(Clock::System.now());
    let following = Following::seated_at(clock.clone()).await;
    let asked = async |after_minutes: i64| {
        clock.advance_ms(after_minutes * MINUTE_MS);
        look(&following).await;
        look(&following).await;
        following.home.asked("getCheckpoint").len()
    };
    let checkpoint = json!(following.home.checkpoint(&following.chain, SEATED));
    following.home.answers("getCheckpoint", 200, json!({ "checkpoint": checkpoint, "headers": [] }));
    assert_eq!(asked(59).await, 0);
    assert_eq!(asked(2).await, 1, "and once heard it is not silent");
    following.home.answers("getCheckpoint", 503, json!({ "error": "Unavailable", "message": "no" }));
    assert_eq!(asked(59).await, 1);
    assert_eq!(asked(2).await, 2, "silent still, and asked once");
    assert_eq!(asked(59).await, 2);
    assert_eq!(asked(2).await, 3);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_names_a_later_life_is_shown_what_it_signed_last() {
    let following = Following::seated().await;
    let (home, shown) = (&following.home, || following.home.asked("showCheckpoint"));
    let replicas = &following.servers[0].server().services().replicas;
    home.offers(&following.chain, SEATED + 1);
    let follow = async || {
        replicas.follow(following.chain.stream(), &home.did, Seq(SEATED + 1), None).await.unwrap();
    };
    home.answers("showCheckpoint", 200, json!({ "state": "known" }));
    for incarnation in [1_000, 1_000, 900] {
        home.incarnation.store(incarnation, Ordering::SeqCst);
        follow().await;
    }
    assert_eq!(shown(), [] as [serde_json::Value; 0], "how often it lived before was never known");
    home.incarnation.store(2_000, Ordering::SeqCst);
    follow().await;
    eventually("it is shown", async || !shown().is_empty()).await;
    follow().await;
    let shown = shown();
    assert_eq!(shown.len(), 1, "once for each life");
    assert_eq!(shown[0]["stream"], json!(following.chain.stream()));
    assert_eq!(shown[0]["checkpoint"]["key"], json!(home.keys.checkpoint_id()));
    let statement: rookery::types::Bytes = serde_json::from_value(shown[0]["checkpoint"]["statement"].clone()).unwrap();
    let newest = home.checkpoint(&following.chain, SEATED);
    let read = |signed| rookery::log::chain::Checkpoint::of(signed).unwrap().hash();
    let told = rookery::identity::Signed { statement, ..newest.clone() };
    assert_eq!(read(&told), read(&newest));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_of_a_stream_without_a_seat_here_go_after_29_days_and_headers_stay() {
    let clock = Clock::manual(Clock::System.now());
    let mut following = Following::seated_at(clock.clone()).await;
    following.chain.messages(2);
    let bob = std::sync::Arc::clone(&following.bob);
    following.chain.remove(&bob);
    let last = following.chain.len();
    assert_eq!(state(&following.replicates(SEATED + 1, last).await), "stop");
    let held = async || {
        look(&following).await;
        let held = sqlx::query_as::<_, (i64, i64)>(
            "select count(header), count(content) from entry_content e
            join stream s on s.id = e.stream_id where s.public_id = $1",
        );
        let held = held.bind(following.chain.stream().as_str());
        held.fetch_one(&mut following.servers[0].database.connect().await).await.unwrap()
    };
    assert_eq!(held().await, (4, 4));
    clock.advance_ms(29 * DAY_MS - MINUTE_MS);
    assert_eq!(held().await, (4, 4));
    clock.advance_ms(DAY_MS);
    assert_eq!(held().await, (4, 0));
    following.stop().await;
}
