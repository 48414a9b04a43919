//! `blue.catbird.peer.unfollow`: a server that wants no more gets no more.

use rookery::types::StreamId;

use crate::support::{TwoServers, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn who_unfollows_is_sent_nothing_more() {
    let two = TwoServers::followed().await;
    let stream = StreamId::parse(&two.stream).unwrap();
    two.servers[1].server().services().replicas.unfollow(&stream).await.unwrap();
    let followers = "select count(*) from follower";
    let mut home = two.servers[0].database.connect().await;
    assert_eq!(sqlx::query_scalar::<_, i64>(followers).fetch_one(&mut home).await.unwrap(), 0);
    let before = two.bob.entries(&two.stream, 0).await.unwrap().len();
    two.alice.send(&two.stream, b"alone again").await.unwrap();
    let other = two.another().await;
    two.alice.send(&other, b"here").await.unwrap();
    eventually("what is followed comes", async || two.bob.entries(&other, 0).await.unwrap().len() == 2).await;
    assert_eq!(two.bob.entries(&two.stream, 0).await.unwrap().len(), before);
    two.stop().await;
}
