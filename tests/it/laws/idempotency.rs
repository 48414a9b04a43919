//! The same call gets the first answer again; another call under the same name is refused.

use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::Method;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::send_message::SendMessage;
use rookery_client::Service;

use crate::support::{TestServer, conversation};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_send_repeated_and_repeated_concurrently_gives_the_same_receipt() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let alice = Arc::clone(&people[0]);
    let draft = alice.draft_message(&stream, b"once").await.unwrap();

    let tasks: Vec<_> = (0..24)
        .map(|_| {
            let (alice, draft) = (Arc::clone(&alice), draft.clone());
            tokio::spawn(async move { alice.procedure::<SendMessage>(&draft).await.unwrap() })
        })
        .collect();
    let mut receipts = Vec::new();
    for task in tasks {
        receipts.push(task.await.unwrap());
    }
    receipts.push(alice.procedure::<SendMessage>(&draft).await.unwrap());

    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]));
    let entries = alice.entries(&stream, receipts[0].seq - 1).await.unwrap();
    assert_eq!(entries.len(), 1, "one entry, however often it was sent");

    let other = alice.draft_message(&stream, b"other words").await.unwrap();
    let other = rookery::lexicon::mls::send_message::Input { idem: draft.idem.clone(), ..other };
    let error = alice.procedure::<SendMessage>(&other).await.unwrap_err();
    assert!(error.is("IdempotencyConflict"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_give_one_answer_to_one_call() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let replica = server.replica().await;
    let url = format!("http://{}", replica.address());
    let elsewhere = Service::new(&url, TestServer::did()).unwrap().with_patience(Duration::from_secs(5));
    let alice = &people[0];

    for round in 0..12 {
        let draft = alice.draft_message(&stream, format!("round {round}").as_bytes()).await.unwrap();
        let token = || Some(alice.token(SendMessage::NSID));
        let (here, there) =
            tokio::join!(alice.procedure::<SendMessage>(&draft), elsewhere.procedure::<SendMessage>(&draft, token));
        assert_eq!(here.unwrap(), there.unwrap());
    }
    let entries = alice.entries(&stream, 0).await.unwrap();
    let seqs: Vec<u64> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=entries.len() as u64).collect::<Vec<_>>());
    assert_eq!(entries.iter().filter(|entry| entry.kind == "#message").count(), 12);
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_comes_again_after_the_epoch_moved_and_after_the_seat_ended() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let (alice, bob) = (&people[0], &people[1]);
    let draft = bob.draft_message(&stream, b"early").await.unwrap();
    let first = bob.procedure::<SendMessage>(&draft).await.unwrap();

    // A removal raises the oldest epoch that is taken; then Bob himself is removed.
    for leaving in [&people[2], bob] {
        alice.remove_members(&stream, &[leaving.did().clone()]).await.unwrap();
        assert_eq!(bob.procedure::<SendMessage>(&draft).await.unwrap(), first);
    }
    let late = bob.draft_message(&stream, b"late").await.unwrap();
    let error = bob.procedure::<SendMessage>(&late).await.unwrap_err();
    assert!(error.is("NotMember"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_repeated_concurrently_gives_the_same_answer() {
    let server = TestServer::start().await;
    let founder = server.person("founder").await;
    let stream = founder.create_convo().await.unwrap();
    let invited = server.newcomer("invited", 1).await;
    let claimed = founder.claim(&stream, &[invited.did().clone()]).await.unwrap();
    let draft = founder.draft_commit(&stream, &claimed, &[]).await.unwrap();

    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (founder, draft) = (Arc::clone(&founder), draft.clone());
            tokio::spawn(async move { founder.procedure::<AddMembers>(&draft).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers.push(founder.procedure::<AddMembers>(&draft).await.unwrap());

    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].epoch, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_in_the_pool_suffices_for_everything() {
    let server = TestServer::start_with(&[("DATABASE_POOL", "1")]).await;
    let (stream, people) = conversation(&server, 4).await;
    let tasks: Vec<_> = people
        .iter()
        .map(|person| {
            let (person, stream) = (Arc::clone(person), stream.clone());
            tokio::spawn(async move { person.send(&stream, b"all at once").await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    people[0].remove_members(&stream, &[people[3].did().clone()]).await.unwrap();
    assert_eq!(people[0].convo(&stream).await.unwrap().members.len(), 3);
    server.stop().await;
}
