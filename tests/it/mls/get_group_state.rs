use rookery::lexicon::mls::get_group_state::{GetGroupState, Output, Params};
use rookery::mls::group_info;
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{TestServer, conversation, refused};

async fn state(person: &Person, stream: &str, if_not: Option<u64>) -> Result<Output, CallError> {
    person.query::<GetGroupState>(&Params { stream: stream.to_owned(), if_not }).await
}

#[tokio::test]
async fn a_member_gets_the_group_info_of_the_present_epoch_unless_it_has_it() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let first = state(&people[1], &stream, None).await.unwrap();
    let view = group_info::view(first.group_info.unwrap().as_slice()).unwrap();
    assert_eq!((first.epoch, first.unchanged, view.epoch.0, view.leaves.len()), (1, false, 1, 3));
    assert_eq!(first.pending_proposals, []);

    let unchanged = state(&people[1], &stream, Some(1)).await.unwrap();
    assert_eq!((unchanged.epoch, unchanged.unchanged, unchanged.group_info), (1, true, None));
    let removed = people[0].remove_members(&stream, &[people[2].did().clone()]).await.unwrap();
    let moved = state(&people[1], &stream, Some(1)).await.unwrap();
    let view = group_info::view(moved.group_info.unwrap().as_slice()).unwrap();
    assert_eq!((moved.epoch, moved.unchanged, view.leaves.len()), (2, false, 2));
    assert_eq!((moved.head.seq, moved.head.hash), (removed.seq, removed.hash));
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_seat_gets_no_tree() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let stranger = server.person("stranger").await;
    refused(state(&stranger, &stream, None).await, 404, "StreamNotFound");
    people[0].remove_members(&stream, &[people[1].did().clone()]).await.unwrap();
    refused(state(&people[1], &stream, None).await, 403, "NotMember");
    refused(state(&people[1], &stream, Some(2)).await, 403, "NotMember");
    server.stop().await;
}

#[tokio::test]
async fn a_group_info_that_is_gone_is_said_to_be_and_the_next_commit_brings_one() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let lost = sqlx::query("delete from group_info").execute(&mut server.database.connect().await).await.unwrap();
    assert!(lost.rows_affected() > 0);
    refused(state(&people[0], &stream, None).await, 404, "GroupInfoUnavailable");
    assert!(state(&people[0], &stream, Some(1)).await.unwrap().unchanged);
    people[0].remove_members(&stream, &[people[2].did().clone()]).await.unwrap();
    assert!(state(&people[0], &stream, None).await.unwrap().group_info.is_some());
    server.stop().await;
}
