//! `blue.catbird.peer.replicate`: what a home hands on is held as made, or not at all.

use rookery::federation::replica::{Replicate, WireErasure};
use rookery::log::StreamState;
use rookery::types::{Bytes, UnixMillis};

use crate::support::{Chain, Following, SEATED, no, seq, state};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_home_hands_on_is_read_by_its_members_byte_for_byte() {
    let mut following = Following::seated().await;
    following.chain.messages(5);
    assert_eq!(state(&following.replicates(5, 9).await), "ok");
    let stream = following.chain.stream().to_string();
    let read = following.bob.entries(&stream, 0).await.unwrap();
    let headers: Vec<_> = read.iter().map(|entry| entry.header.0.clone()).collect();
    let made: Vec<_> = following.chain.entries[3..].iter().map(|held| held.header.clone()).collect();
    assert_eq!(headers, made);
    assert!(read.iter().all(|entry| entry.body.is_some()));
    let convo = following.bob.convo(&stream).await.unwrap();
    assert_eq!((convo.members.len(), convo.head.seq), (2, 9), "the view shows whom the entries do not");

    // Again, in part, and with a hole: what is held is skipped, what is missing is told.
    assert_eq!(seq(&following.replicates(6, 8).await), 9);
    following.chain.messages(4);
    let gap = following.replicates(12, 13).await;
    assert_eq!((state(&gap), seq(&gap)), ("gap", 9));
    assert_eq!(seq(&following.replicates(8, 13).await), 13);

    // The entry that ends the last seat is the last.
    following.chain.remove(&following.bob);
    assert_eq!(state(&following.replicates(14, 14).await), "stop");
    following.chain.message();
    assert_eq!(no(&following.replicates(15, 15).await), (404, "StreamNotFound"));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_hold_together_is_refused_by_its_name_and_nothing_of_it_is_held() {
    let mut following = Following::seated().await;
    following.chain.messages(4);
    let (home, chain, to) = (&following.home, &following.chain, following.to());
    let good = home.part(chain, 5, 8);
    let change = |change: &dyn Fn(&mut Replicate)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let mut other = chain.until(6);
    other.message();
    let mut falls = chain.until(4);
    falls.head.time = UnixMillis(falls.head.time.0 - 10);
    falls.message();
    let bad: Vec<(&str, Replicate)> = vec![
        ("ChainBroken", change(&|request| drop(request.entries.remove(1)))),
        ("ChainBroken", change(&|request| request.entries.swap(1, 2))),
        ("ChainBroken", change(&|request| request.prev = Bytes(vec![7; 32]))),
        ("ChainBroken", home.part(&falls, 5, 5)),
        ("ContentMismatch", change(&|request| request.entries[1].content = request.entries[2].content.clone())),
        ("ContentMismatch", change(&|request| request.entries[3].content = None)),
        ("CheckpointInvalid", change(&|request| request.checkpoint.sig.0[0] ^= 1)),
        ("CheckpointInvalid", change(&|request| request.checkpoint = home.checkpoint(chain, 7))),
        ("CheckpointInvalid", change(&|request| request.checkpoint = home.checkpoint(&other, 7))),
    ];
    for (name, request) in bad {
        assert_eq!(no(&home.hands(to, &request).await), (400, name));
        // A good one between them: only failures in a row count.
        assert_eq!(seq(&home.replicates(to, chain, SEATED, SEATED).await), SEATED, "nothing was held");
    }
    let mut silent = chain.until(4);
    silent.head.term = silent.head.term.next();
    silent.message();
    assert_eq!(
        no(&home.replicates(to, &silent, 5, 5).await),
        (409, "StaleTerm"),
        "a greater number alone is worth nothing"
    );
    let mut longer = good.encode().unwrap();
    longer.push(0);
    let kind = "application/vnd.ipld.dag-cbor";
    assert_eq!(no(&home.posts(to, "replicate", kind, longer).await), (400, "Malformed"));
    assert_eq!(no(&home.posts(to, "replicate", kind, vec![0; (8 << 20) + 1]).await), (413, "PayloadTooLarge"));
    assert_eq!(seq(&home.hands(to, &good).await), 8);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_home_of_a_stream_that_was_asked_for_is_listened_to() {
    let mut following = Following::seated().await;
    following.chain.messages(1);
    let stranger = following.stranger().await;
    // Another server with the very entries, and its own word for them.
    let mut request = following.home.part(&following.chain, 5, 5);
    request.checkpoint = stranger.checkpoint(&following.chain, 5);
    assert_eq!(no(&stranger.hands(following.to(), &request).await), (403, "NotHome"));
    let mut unasked = Chain::found(&following.home);
    unasked.add(&following.bob, following.servers[0].did());
    assert_eq!(no(&following.home.replicates(following.to(), &unasked, 4, 4).await), (404, "StreamNotFound"));
    assert_eq!(following.held().await, (StreamState::Active, SEATED));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_request_again_changes_nothing_and_one_of_an_old_term_is_refused() {
    let mut following = Following::seated().await;
    following.chain.messages(2);
    let old = following.home.part(&following.chain, 5, 6);
    assert_eq!(seq(&following.home.hands(following.to(), &old).await), 6);
    assert_eq!(seq(&following.home.hands(following.to(), &old).await), 6);
    following.chain.restore();
    following.chain.messages(1);
    assert_eq!(seq(&following.replicates(7, 8).await), 8);
    assert_eq!(no(&following.home.hands(following.to(), &old).await), (409, "StaleTerm"));
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_failure_in_a_row_stops_a_stream_until_it_is_followed_anew() {
    let mut following = Following::seated().await;
    following.chain.messages(2);
    let mut bad = following.home.part(&following.chain, 5, 6);
    bad.checkpoint.sig.0[0] ^= 1;
    for _ in 0..3 {
        assert_eq!(no(&following.home.hands(following.to(), &bad).await), (400, "CheckpointInvalid"));
    }
    assert_eq!(no(&following.replicates(5, 6).await), (400, "CheckpointInvalid"), "nothing more is taken");
    assert_eq!(following.held().await, (StreamState::Active, SEATED), "it is not frozen");
    following.home.offers(&following.chain, 5);
    following.follow().await.unwrap_err();
    following.home.offers(&following.chain, 5);
    let replicas = &following.servers[0].server().services().replicas;
    replicas.follow(following.chain.stream(), &following.home.did, rookery::types::Seq(5), None).await.unwrap();
    assert_eq!(seq(&following.replicates(5, 6).await), 6);
    following.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_is_done_without_where_the_home_shows_a_later_entry_that_takes_it_back() {
    let mut following = Following::seated().await;
    let stranger = following.stranger().await;
    following.chain.messages(3);
    let at_six = following.chain.until(6);
    let at_seven = following.chain.clone();
    following.chain.erase(&[6]);
    following.chain.message();
    let (home, chain, to) = (&following.home, &following.chain, following.to());
    let mut without = home.part(chain, 5, 7);
    without.entries[1].content = None;
    let showing = |erasure: WireErasure| Replicate { erasures: vec![erasure], ..without.clone() };
    let good = home.erasure(chain, 8);
    let change = |change: &dyn Fn(&mut WireErasure)| {
        let mut erasure = good.clone();
        change(&mut erasure);
        showing(erasure)
    };
    let mut elsewhere = Chain::found(home);
    elsewhere.messages(4);
    elsewhere.erase(&[6]);
    let (mut of_another, mut too_early) = (at_seven, at_six);
    of_another.erase(&[5, 7, 9]);
    too_early.erase(&[6]);
    let bad: Vec<(&str, Replicate)> = vec![
        ("ContentMismatch", without.clone()),
        ("ContentMismatch", showing(home.erasure(&elsewhere, 8))),
        ("ContentMismatch", showing(home.erasure(&of_another, 8))),
        ("ContentMismatch", showing(home.erasure(&too_early, 7))),
        ("ContentMismatch", showing(home.erasure(chain, 9))),
        ("ContentMismatch", showing(WireErasure { content: good.content.clone(), ..home.erasure(&of_another, 8) })),
        ("Malformed", change(&|erasure| erasure.header.0.push(0))),
        ("CheckpointInvalid", change(&|erasure| erasure.checkpoint.sig.0[0] ^= 1)),
        ("CheckpointInvalid", change(&|erasure| erasure.checkpoint = home.checkpoint(chain, 9))),
        ("CheckpointInvalid", change(&|erasure| erasure.checkpoint = home.checkpoint(&of_another, 8))),
        ("CheckpointInvalid", change(&|erasure| erasure.checkpoint = home.checkpoint(&elsewhere, 8))),
        ("CheckpointInvalid", change(&|erasure| erasure.checkpoint = stranger.checkpoint(chain, 8))),
        ("Malformed", Replicate { erasures: vec![good.clone(); 17], ..without.clone() }),
    ];
    for (number, (name, request)) in bad.into_iter().enumerate() {
        assert_eq!(no(&home.hands(to, &request).await), (400, name), "number {number}");
        assert_eq!(seq(&home.replicates(to, chain, SEATED, SEATED).await), SEATED, "nothing was held");
    }
    assert_eq!(seq(&home.hands(to, &showing(good.clone())).await), 7);
    assert_eq!(seq(&home.replicates(to, chain, 8, 9).await), 9);
    let read = following.bob.entries(chain.stream().as_str(), 0).await.unwrap();
    let missing: Vec<u64> = read.iter().filter(|entry| entry.body.is_none()).map(|entry| entry.seq).collect();
    assert_eq!(missing, [6]);
    following.stop().await;
}
