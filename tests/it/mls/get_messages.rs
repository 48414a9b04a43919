use rookery::lexicon::mls::get_messages::{GetMessages, Output, Params};
use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, idem, refused};

fn params(stream: &str) -> Params {
    Params { stream: stream.to_owned(), after_seq: None, before_seq: None, kinds: None, limit: 50 }
}

async fn read(person: &Person, params: &Params) -> Output {
    person.query::<GetMessages>(params).await.unwrap()
}

fn seqs(page: &Output) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

#[tokio::test]
async fn a_conversation_is_read_either_way_in_ascending_pages() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    for number in 0..6 {
        people[0].send(&stream, format!("{number}").as_bytes()).await.unwrap();
    }
    // Three entries of the founding, one commit, six messages.
    let alice = &people[0];
    let all = read(alice, &params(&stream)).await;
    assert_eq!((seqs(&all), all.more, all.head.seq), ((1..=10).collect(), false, 10));
    assert_eq!(all.head.hash, all.entries[9].hash);
    let page = read(alice, &Params { after_seq: Some(4), limit: 3, ..params(&stream) }).await;
    assert_eq!((seqs(&page), page.more, page.head.seq), (vec![5, 6, 7], true, 10));
    let page = read(alice, &Params { after_seq: Some(7), limit: 3, ..params(&stream) }).await;
    assert_eq!((seqs(&page), page.more), (vec![8, 9, 10], false));
    let page = read(alice, &Params { before_seq: Some(10), limit: 3, ..params(&stream) }).await;
    assert_eq!((seqs(&page), page.more), (vec![7, 8, 9], true));
    let page = read(alice, &Params { before_seq: Some(3), limit: 3, ..params(&stream) }).await;
    assert_eq!((seqs(&page), page.more), (vec![1, 2], false));
    let page = read(alice, &Params { after_seq: Some(9_007_199_254_740_991), ..params(&stream) }).await;
    assert_eq!((seqs(&page), page.more), (vec![], false));
    let both = Params { after_seq: Some(1), before_seq: Some(9), ..params(&stream) };
    refused(alice.query::<GetMessages>(&both).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn kinds_choose_and_an_unknown_one_matches_nothing() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    people[0].send(&stream, b"one").await.unwrap();
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    people[0].send(&stream, b"two").await.unwrap();
    for (kinds, expected) in [
        (&["#message"][..], vec![5, 7]),
        (&["#commit"], vec![4, 6]),
        (&["#message", "#commit", "#erased"], vec![4, 5, 6, 7]),
        (&["#nothing"], vec![]),
    ] {
        let kinds = Some(kinds.iter().map(|kind| (*kind).to_owned()).collect());
        let page = read(&people[0], &Params { kinds, ..params(&stream) }).await;
        assert_eq!((seqs(&page), page.head.seq, page.more), (expected, 7, false));
    }
    let page = Params { kinds: Some(vec!["#message".to_owned()]), limit: 1, ..params(&stream) };
    assert!(read(&people[0], &page).await.more);
    server.stop().await;
}

#[tokio::test]
async fn who_left_reads_up_to_its_own_leaving_and_sees_that_as_the_head() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let leave =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let left = people[1].procedure::<LeaveConvo>(&leave).await.unwrap();
    people[0].send(&stream, b"later").await.unwrap();
    let page = read(&people[1], &params(&stream)).await;
    assert_eq!(seqs(&page), [4, left.seq], "from the commit that brought it");
    assert_eq!((page.head.seq, page.head.hash, page.more), (left.seq, left.hash, false));
    let before = Params { before_seq: Some(1000), ..params(&stream) };
    assert_eq!(seqs(&read(&people[1], &before).await), [4, left.seq]);
    server.stop().await;
}

#[tokio::test]
async fn to_a_stranger_there_is_no_stream_and_an_account_stream_is_no_conversation() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;
    refused(stranger.query::<GetMessages>(&params(&stream)).await, 404, "StreamNotFound");
    let own = people[0].register().await.unwrap().stream;
    refused(people[0].query::<GetMessages>(&params(&own)).await, 404, "StreamNotFound");
    let second = server.second_device(&people[1]).await;
    assert_eq!(read(&second, &params(&stream)).await, read(&people[1], &params(&stream)).await);
    server.stop().await;
}
