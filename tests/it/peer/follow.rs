//! `blue.catbird.peer.follow`: where a follower may begin, and why it believes it. What somebody without a seat is told by
//! `blue.catbird.peer.unfollow`, `blue.catbird.peer.getEntries` and `blue.catbird.peer.getCheckpoint`.

use rookery::federation::replica::FollowError;
use serde_json::json;

use crate::support::{Chain, Following, TwoServers, no};

fn why(outcome: Result<(), FollowError>) -> &'static str {
    match outcome {
        Err(FollowError::Refused(refusal)) => refusal.name,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_cannot_prove_its_lineage_is_not_followed_and_nothing_is_founded() {
    let following = Following::begin().await;
    let (home, squatter) = (&following.home, following.stranger().await);
    // Somebody else's stream, with somebody else's genesis, or with one's own.
    let theirs = Chain::found(home);
    assert_eq!(why(following.follow_as(&squatter, &theirs).await), "NotHome");
    let replicas = &following.servers[0].server().services().replicas;
    let own = Chain::found(&squatter);
    squatter.offers(&own, 4);
    let squatted = replicas.follow(theirs.stream(), &squatter.did, rookery::types::Seq(4), Some(own.view())).await;
    assert_eq!(why(squatted.map(drop)), "ChainBroken");

    let chain = Chain::found(home);
    let offered = |change: &dyn Fn(&mut serde_json::Value)| {
        let anchor = home.checkpoint(&chain, 3);
        let mut answer = json!({
            "home": home.did, "term": chain.head.term, "genesis": rookery::types::Bytes(chain.genesis.clone()),
            "lineage": [], "anchor": anchor, "head": home.checkpoint(&chain, 3),
        });
        change(&mut answer);
        home.answers("follow", 200, answer);
        replicas.follow(chain.stream(), &home.did, rookery::types::Seq(4), Some(chain.view()))
    };
    let stranger = squatter.checkpoint(&chain, 3);
    let other = home.checkpoint(&theirs, 3);
    for (name, followed) in [
        ("CheckpointInvalid", offered(&|answer| answer["head"] = json!(stranger)).await),
        ("CheckpointInvalid", offered(&|answer| answer["anchor"] = json!(other)).await),
        ("ChainBroken", offered(&|answer| answer["term"] = json!(chain.head.term.next())).await),
        ("ChainBroken", offered(&|answer| answer["anchor"] = json!(home.checkpoint(&chain, 2))).await),
        ("NotHome", offered(&|answer| answer["home"] = json!(squatter.did)).await),
    ] {
        assert_eq!(why(followed.map(drop)), name);
    }
    let log = &following.servers[0].server().services().log;
    for chain in [&theirs, &own, &chain] {
        assert_eq!(log.find_stream(chain.stream().as_str()).await.unwrap(), None, "nothing was founded");
    }
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_id_that_another_stream_has_is_nobody_s_to_take() {
    let mut following = Following::seated().await;
    // Another home's stream of the same group id; and then one of this server.
    let other = following.stranger().await;
    let mut twin = Chain::found(&other);
    twin.group_id.clone_from(&following.chain.group_id);
    twin.add(&following.bob, following.servers[0].did());
    following.follow_as(&other, &twin).await.unwrap();
    assert_eq!(other.replicates(following.to(), &twin, 4, 4).await.0, 200);
    following.chain.messages(1);
    assert_eq!(following.replicates(5, 5).await.0, 200);
    let (one, two) = (following.chain.stream().to_string(), twin.stream().to_string());
    let (one, two) = (following.bob.convo(&one).await.unwrap(), following.bob.convo(&two).await.unwrap());
    assert_eq!(one.group_id, two.group_id);
    assert_eq!((one.head.seq, two.head.seq), (5, 4), "they stay apart");
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_a_server_without_a_seat_there_is_no_stream() {
    let two = TwoServers::followed().await;
    let stranger = two.stranger().await;
    let to = (two.origin.as_str(), two.servers[0].did());
    let follow = |stream: &str| json!({ "stream": stream, "from": 1 });
    for stream in [two.stream.as_str(), "scwfgagcsyqhmdj7pbehnj6jvili52f63"] {
        assert_eq!(no(&stranger.calls(to, "follow", &follow(stream)).await), (404, "StreamNotFound"));
        assert_eq!(no(&stranger.calls(to, "unfollow", &json!({ "stream": stream })).await), (404, "StreamNotFound"));
        for query in [format!("stream={stream}&from=1"), format!("stream={stream}")] {
            let method = if query.contains("from") { "getEntries" } else { "getCheckpoint" };
            assert_eq!(no(&stranger.asks(to, method, &query).await), (404, "StreamNotFound"));
        }
    }
    // The follower is no home, and says who is.
    let follower = two.servers[1].proxy.origin();
    let said = two.seat_of(&stranger, 1).await;
    let refused = stranger.calls((&follower, two.servers[1].did()), "follow", &follow(&said)).await;
    assert_eq!(no(&refused), (403, "NotHome"));
    let query = format!("stream={said}&from=1");
    let refused = stranger.asks((&follower, two.servers[1].did()), "getEntries", &query).await;
    assert_eq!(no(&refused), (403, "NotHome"));
    // At the home it has a seat too; but the stream is frozen there.
    let said = two.seat_of(&stranger, 0).await;
    let freeze = "update stream set state = $2 where public_id = $1";
    sqlx::query(freeze)
        .bind(&said)
        .bind(rookery::log::StreamState::Frozen.to_db())
        .execute(&mut two.servers[0].database.connect().await)
        .await
        .unwrap();
    assert_eq!(no(&stranger.calls(to, "follow", &follow(&said)).await), (409, "StreamFrozen"));
    two.stop().await;
}
