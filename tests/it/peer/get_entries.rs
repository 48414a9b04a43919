//! `blue.catbird.peer.getEntries`: entries as made, for those whom they concern.

use serde_json::Value;

use crate::support::{Following, SEATED, TwoServers, json, no};

fn contents(answer: &Value) -> Vec<bool> {
    answer["entries"].as_array().unwrap().iter().map(|entry| entry.get("content").is_some()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_contents_where_its_seats_cover_them_and_headers_elsewhere() {
    let two = TwoServers::followed().await;
    two.alice.send(&two.stream, b"one").await.unwrap();
    two.dismiss(&two.stream).await;
    two.alice.send(&two.stream, b"among ourselves").await.unwrap();
    // Four entries before Bob's seat and with it, a message, his end, and one after it.
    let stranger = two.stranger().await;
    let home = (two.origin.as_str(), two.servers[0].did());
    let seats = "update seat set server = $1 where server = $2";
    sqlx::query(seats)
        .bind(stranger.did.as_str())
        .bind(two.servers[1].did().as_str())
        .execute(&mut two.servers[0].database.connect().await)
        .await
        .unwrap();
    let (status, answer) = stranger.asks(home, "getEntries", &format!("stream={}&from=1", two.stream)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(contents(&answer), [false, false, false, true, true, true], "no entry after the end of the last seat");
    assert_eq!((answer["from"].as_u64(), answer["more"].as_bool()), (Some(1), Some(false)));
    let (_, answer) = stranger.asks(home, "getEntries", &format!("stream={}&from=7", two.stream)).await;
    assert_eq!((contents(&answer), answer["more"].as_bool()), (Vec::new(), Some(false)));
    // Nor do its checkpoints or `peer.follow` show later entries.
    let checkpoint = async |query: &str| {
        let (status, answer) = stranger.asks(home, "getCheckpoint", &format!("stream={}{query}", two.stream)).await;
        let statement = answer["checkpoint"]["statement"].clone();
        let statement = serde_json::from_value::<rookery::types::Bytes>(statement).ok();
        let statement = statement.map(|statement| statement.0).unwrap_or_default();
        (status, rookery::log::chain::decode::<rookery::log::chain::Checkpoint>(&statement, "checkpoint").ok())
    };
    let (status, told) = checkpoint("").await;
    assert_eq!((status, told.map(|told| told.seq.0)), (200, Some(6)));
    assert_eq!(checkpoint("&seq=7").await.0, 404);
    let follow = async |from: u64| {
        let input = serde_json::json!({ "stream": two.stream, "from": from });
        stranger.calls(home, "follow", &input).await.0
    };
    assert_eq!((follow(6).await, follow(7).await), (200, 404));
    let part = format!("stream={}&from=4&limit=2&maxBytes=1", two.stream);
    let (_, answer) = stranger.asks(home, "getEntries", &part).await;
    assert_eq!((contents(&answer), answer["more"].as_bool()), (vec![true], Some(true)), "one comes in any case");
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_gets_back_from_its_follower_what_it_made_and_nobody_else_does() {
    let mut following = Following::seated().await;
    following.chain.messages(3);
    following.replicates(5, 7).await;
    let query = format!("stream={}&from=5", following.chain.stream());
    let (status, answer) = following.home.asks(following.to(), "getEntries", &query).await;
    assert_eq!(status, 200, "{answer}");
    let made: Vec<Value> = following.home.part(&following.chain, 5, 7).entries.iter().map(json).collect();
    assert_eq!(answer["entries"].as_array().unwrap(), &made);
    assert_eq!(answer["checkpoint"], json(&following.home.checkpoint(&following.chain, 7)));
    let (_, answer) = following.home.asks(following.to(), "getEntries", &query.replace("from=5", "from=99")).await;
    assert_eq!(answer["entries"], serde_json::json!([]));
    let stranger = following.stranger().await;
    assert_eq!(no(&stranger.asks(following.to(), "getEntries", &query).await), (404, "StreamNotFound"));
    assert_eq!(following.held().await.1, SEATED + 3);
    following.stop().await;
}
