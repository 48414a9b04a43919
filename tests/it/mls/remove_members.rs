//! Refusals: `commits.rs`.

use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::lexicon::mls::remove_members::{self, RemoveMembers};

use crate::support::{TestServer, conversation, idem, refused};

#[tokio::test]
async fn a_removal_ends_the_seat_at_its_entry_and_makes_an_epoch_without_the_member() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let removed = people[0].remove_members(&stream, &[people[2].did().clone()]).await.unwrap();
    assert_eq!(removed.epoch, 2);
    let convo = people[1].convo(&stream).await.unwrap();
    assert_eq!((convo.epoch, convo.head.seq), (2, removed.seq));
    assert!(convo.members.iter().all(|member| member.account != *people[2].did()));
    refused(people[2].convo(&stream).await, 404, "StreamNotFound");
    people[1].arrive(&stream).await.unwrap();
    assert_eq!(people[1].epoch(&stream).await.unwrap(), people[0].epoch(&stream).await.unwrap());
    server.stop().await;
}

#[tokio::test]
async fn anybody_removes_the_leaves_of_who_has_left() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let leave =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    people[2].procedure::<LeaveConvo>(&leave).await.unwrap();
    people[1].arrive(&stream).await.unwrap();
    let removed = people[1].remove_members(&stream, &[people[2].did().clone()]).await.unwrap();
    let seen = people[2].entries(&stream, 0).await.unwrap();
    assert!(seen.last().unwrap().seq < removed.seq, "its seat had ended before");
    server.stop().await;
}

#[tokio::test]
async fn who_was_removed_and_comes_back_has_two_spans_and_nothing_between() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    let joined = bob.entries(&stream, 0).await.unwrap()[0].seq;
    let removed = alice.remove_members(&stream, &[bob.did().clone()]).await.unwrap().seq;
    alice.send(&stream, b"between").await.unwrap();
    bob.publish(1, false).await.unwrap();
    let back = alice.add_members(&stream, &[bob.did().clone()]).await.unwrap().seq;
    alice.send(&stream, b"again").await.unwrap();

    let seen: Vec<u64> = bob.entries(&stream, 0).await.unwrap().iter().map(|entry| entry.seq).collect();
    let expected: Vec<u64> = (joined..=removed).chain(back..=back + 1).collect();
    assert_eq!(seen, expected);
    let convo = bob.convo(&stream).await.unwrap();
    assert_eq!((convo.head.seq, convo.unread), (back + 1, 1), "unread since it came back");
    server.stop().await;
}

#[tokio::test]
async fn a_removal_repeated_gets_the_first_answer_and_another_one_under_its_name_none() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 4).await;
    let mut bundles = Vec::new();
    for person in &people[2..] {
        let draft = people[0].draft_commit(&stream, &[], &[person.did().clone()]).await.unwrap();
        bundles.push(remove_members::Input { welcome: None, adds: None, ..super::commits::as_removal(&draft) });
    }
    let first = people[0].procedure::<RemoveMembers>(&bundles[0]).await.unwrap();
    assert_eq!(people[0].procedure::<RemoveMembers>(&bundles[0]).await.unwrap(), first);
    let other = remove_members::Input { idem: bundles[0].idem.clone(), ..bundles[1].clone() };
    refused(people[0].procedure::<RemoveMembers>(&other).await, 409, "IdempotencyConflict");
    server.stop().await;
}

#[tokio::test]
async fn a_welcome_that_nobody_needs_is_refused_and_so_is_a_removal_of_nobody() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let dave = server.newcomer("dave", 1).await;
    let claimed = people[0].claim(&stream, &[dave.did().clone()]).await.unwrap();
    let welcome = people[0].draft_commit(&stream, &claimed, &[]).await.unwrap().welcome;
    let draft = people[0].draft_commit(&stream, &[], &[people[2].did().clone()]).await.unwrap();
    let bundle = remove_members::Input { welcome: Some(welcome), ..super::commits::as_removal(&draft) };
    refused(people[0].procedure::<RemoveMembers>(&bundle).await, 400, "WelcomeMismatch");
    let nobody = remove_members::Input { removes: vec![], ..bundle };
    refused(people[0].procedure::<RemoveMembers>(&nobody).await, 400, "InvalidRequest");
    server.stop().await;
}
