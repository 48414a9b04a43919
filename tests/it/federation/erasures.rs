//! Contents that were taken back while a follower was away.

use std::sync::Arc;

use rookery::lexicon::mls::leave_convo::{Input, LeaveConvo};
use rookery_testkit::Person;

use crate::support::{TwoServers, idem};

/// Number, hash and whether there is a content, of entries that the follower has a right to.
async fn held(two: &TwoServers, server: usize) -> Vec<(i64, Vec<u8>, bool)> {
    let held = "select e.seq, e.hash, e.content is not null from entry_content e join stream s on s.id = e.stream_id
        where s.public_id = $1 and e.seq >= (
            select min(seat.from_seq) from seat where seat.stream_id = s.id and seat.server = $2
        ) order by e.seq";
    let mut connection = two.servers[server].database.connect().await;
    let follower = two.servers[1].did().as_str();
    sqlx::query_as(held).bind(&two.stream).bind(follower).fetch_all(&mut connection).await.unwrap()
}

/// Entries without a content, as Bob reads them.
async fn missing(two: &TwoServers) -> Vec<u64> {
    let read = two.bob.entries(&two.stream, 0).await.unwrap();
    read.into_iter().filter(|entry| entry.body.is_none()).map(|entry| entry.seq).collect()
}

async fn says(person: &Person, stream: &str, times: usize, written: &mut Vec<u64>) {
    for _ in 0..times {
        written.push(person.send(stream, b"said").await.unwrap().seq);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_away_catches_up_with_one_who_left_and_took_all_back() {
    let mut two = TwoServers::start().await;
    let (stream, bob) = (two.stream.clone(), Arc::clone(&two.bob));
    let carol = two.servers[0].person("carol").await;
    two.alice.add_members(&stream, &[carol.did().clone()]).await.unwrap();
    carol.arrive(&stream).await.unwrap();
    two.invite(&stream).await;
    let (mut hers, mut others) = (Vec::new(), Vec::new());
    says(&carol, &stream, 2, &mut hers).await;
    two.caught_up(&stream).await;

    two.servers[1].pause().await;
    for _ in 0..30 {
        says(&carol, &stream, 9, &mut hers).await;
        says(&two.alice, &stream, 1, &mut others).await;
    }
    let leave = Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: Some(true), immediate: None };
    carol.procedure::<LeaveConvo>(&leave).await.unwrap();
    says(&two.alice, &stream, 1, &mut others).await;
    two.servers[1].resume(&[&bob]).await;
    two.alive().await;
    two.caught_up(&stream).await;
    assert!(others.last() > Some(&(4 + 256)), "it took more than one request");
    assert_eq!(missing(&two).await, hers, "what she said, and nothing else");
    assert_eq!(held(&two, 1).await, held(&two, 0).await);
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_cut_where_more_erasures_had_to_be_shown_than_it_may() {
    let mut two = TwoServers::followed().await;
    let (stream, bob) = (two.stream.clone(), Arc::clone(&two.bob));
    let mut written = Vec::new();
    two.servers[1].pause().await;
    says(&two.alice, &stream, 270, &mut written).await;
    // Twenty within the first request, each by an entry of its own beyond it; two of one, which are shown once.
    let taken: Vec<u64> = (0..20).map(|number| written[5 + 10 * number]).collect();
    for seq in &taken {
        two.erase(&[*seq, seq + 1]).await;
    }
    two.servers[1].resume(&[&bob]).await;
    two.alive().await;
    two.caught_up(&stream).await;
    assert_eq!(missing(&two).await, taken.iter().flat_map(|seq| [*seq, seq + 1]).collect::<Vec<_>>());
    assert_eq!(held(&two, 1).await, held(&two, 0).await);
    two.stop().await;
}
