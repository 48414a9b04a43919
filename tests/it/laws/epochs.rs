//! One commit wins an epoch.

use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::Method;
use rookery::lexicon::mls::add_members::{self, AddMembers};
use rookery::log::EntryKind;
use rookery_client::CallError;
use rookery_client::Service;
use rookery_testkit::Person;

use crate::support::{TestServer, at_once};

const RIVALS: usize = 32;

/// Commits of one epoch, each of which adds somebody else.
async fn rivals(server: &TestServer, founder: &Person, stream: &str, count: usize) -> Vec<add_members::Input> {
    let mut drafts = Vec::new();
    for number in 0..count {
        let invited = server.newcomer(&format!("invited {number}"), 1).await;
        let claimed = founder.claim(stream, &[invited.did().clone()]).await.unwrap();
        drafts.push(founder.draft_commit(stream, &claimed, &[]).await.unwrap());
    }
    drafts
}

#[tokio::test(flavor = "multi_thread")]
async fn of_concurrent_commits_on_two_replicas_one_wins_the_epoch() {
    let server = TestServer::start().await;
    let replica = server.replica().await;
    let elsewhere = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
    let services = [server.service(), Arc::new(elsewhere.with_patience(Duration::ZERO))];
    let founder = server.person("founder").await;
    let stream = founder.create_convo().await.unwrap();
    let drafts = rivals(&server, &founder, &stream, RIVALS / 2).await;
    let commits = drafts.into_iter().enumerate().map(|(number, draft)| {
        let (founder, service) = (Arc::clone(&founder), Arc::clone(&services[number % 2]));
        async move { service.procedure::<AddMembers>(&draft, || Some(founder.token(AddMembers::NSID))).await }
    });
    let answers = at_once(commits).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for error in answers.into_iter().filter_map(Result::err) {
        assert!(error.is("StaleEpoch"), "{error}");
    }
    let convo = founder.convo(&stream).await.unwrap();
    assert_eq!((convo.epoch, convo.members.len()), (1, 2));
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_32_concurrent_commits_on_one_epoch_one_wins_and_31_learn_the_current_epoch() {
    let server = TestServer::start().await;
    let founder = server.person("founder").await;
    let stream = founder.create_convo().await.unwrap();
    let drafts = rivals(&server, &founder, &stream, RIVALS).await;

    let tasks: Vec<_> = drafts
        .into_iter()
        .map(|draft| {
            let founder = Arc::clone(&founder);
            tokio::spawn(async move { founder.procedure::<AddMembers>(&draft).await })
        })
        .collect();
    let (mut winners, mut stale) = (Vec::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(answer) => winners.push(answer),
            Err(CallError::Refused(refused)) => {
                assert_eq!((refused.status, refused.error.as_str()), (409, "StaleEpoch"), "{refused}");
                assert_eq!(refused.body["currentEpoch"], 1, "the loser learns the current epoch");
                assert!(refused.message.contains('1'), "also through a PDS, which forwards words only");
                stale += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((winners.len(), stale), (1, RIVALS - 1));

    let convo = founder.convo(&stream).await.unwrap();
    assert_eq!(convo.epoch, 1);
    assert_eq!(convo.members.len(), 2, "the founder, and whom the winner added");
    let entries = founder.entries(&stream, 0).await.unwrap();
    let commits: Vec<_> = entries.iter().filter(|entry| entry.kind == EntryKind::Commit.name()).collect();
    assert_eq!(commits.len(), 1);
    assert_eq!(commits[0].seq, winners[0].seq);
    assert_eq!(winners[0].epoch, 1);
    server.stop().await;
}
