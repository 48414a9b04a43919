//! Refusals: `commits.rs`. Competing commits: `laws/epochs.rs`.

use std::sync::Arc;

use rookery::lexicon::mls::add_members::AddMembers;
use rookery::lexicon::mls::get_welcomes::{self, GetWelcomes};
use rookery::types::Clock;

use crate::support::{Handmade, TestServer, at_once, conversation, refused};

#[tokio::test]
async fn one_commit_brings_seats_a_welcome_and_the_new_epoch_together() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (dave, erin) = (server.newcomer("dave", 1).await, server.newcomer("erin", 1).await);
    let dids = [dave.did().clone(), erin.did().clone()];
    let added = people[1].add_members(&stream, &dids).await.unwrap();
    assert_eq!(added.epoch, 2, "any member invites");

    let convo = people[0].convo(&stream).await.unwrap();
    assert_eq!((convo.epoch, convo.head.seq, &convo.head.hash), (2, added.seq, &added.hash));
    let new: Vec<_> = convo.members.iter().filter(|member| member.from_seq == added.seq).collect();
    assert_eq!(new.len(), 2);
    assert!(new.iter().all(|member| member.role == "member" && dids.contains(&member.account)));
    for person in [dave, erin] {
        let params = get_welcomes::Params { limit: 10, cursor: None };
        let waiting = person.query::<GetWelcomes>(&params).await.unwrap().welcomes;
        assert_eq!((waiting.len(), waiting[0].seq, waiting[0].epoch), (1, added.seq, 2));
        person.arrive(&stream).await.unwrap();
        assert_eq!(person.epoch(&stream).await.unwrap(), people[1].epoch(&stream).await.unwrap());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_at_once_is_one_entry_with_one_answer() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let dave = server.newcomer("dave", 1).await;
    let claimed = people[0].claim(&stream, &[dave.did().clone()]).await.unwrap();
    let bundle = people[0].draft_commit(&stream, &claimed, &[]).await.unwrap();
    let calls = (0..12).map(|_| {
        let (alice, bundle) = (Arc::clone(&people[0]), bundle.clone());
        async move { alice.procedure::<AddMembers>(&bundle).await.unwrap() }
    });
    let mut answers = at_once(calls).await;
    answers.push(people[0].procedure::<AddMembers>(&bundle).await.unwrap());
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    let commits = people[0].entries(&stream, 0).await.unwrap();
    assert_eq!(commits.iter().filter(|entry| entry.kind == "#commit").count(), 2);
    let params = get_welcomes::Params { limit: 10, cursor: None };
    assert_eq!(dave.query::<GetWelcomes>(&params).await.unwrap().welcomes.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_key_package_is_used_by_one_commit() {
    let server = TestServer::start().await;
    let mut alice = Handmade::new(&server, server.account());
    alice.register().await.unwrap();
    let (group_id, stream) = alice.found(None).await;
    let dave = server.newcomer("dave", 1).await;
    let claimed = alice.claim(&stream, dave.did()).await;
    let bundle = alice.change(&group_id, &stream, &claimed, &[]);
    alice.procedure::<AddMembers>(&bundle).await.unwrap();
    alice.mls.confirm(&group_id).unwrap();

    let again = alice.change(&group_id, &stream, &claimed, &[&dave]);
    refused(alice.procedure::<AddMembers>(&again).await, 400, "KeyPackageUnknown");
    server.stop().await;
}

#[tokio::test]
async fn a_claim_is_good_for_24_hours() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let (stream, people) = conversation(&server, 2).await;
    let (dave, erin) = (server.newcomer("dave", 1).await, server.newcomer("erin", 1).await);
    let daves = people[0].claim(&stream, &[dave.did().clone()]).await.unwrap();
    clock.advance_ms(60_000);
    let erins = people[0].claim(&stream, &[erin.did().clone()]).await.unwrap();
    clock.advance_ms(24 * 60 * 60 * 1000 - 30_000);

    let late = people[0].draft_commit(&stream, &daves, &[]).await.unwrap();
    refused(people[0].procedure::<AddMembers>(&late).await, 400, "KeyPackageUnknown");
    let in_time = people[0].draft_commit(&stream, &erins, &[]).await.unwrap();
    assert_eq!(people[0].procedure::<AddMembers>(&in_time).await.unwrap().epoch, 2);
    server.stop().await;
}
