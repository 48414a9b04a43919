//! One commit wins an epoch.

use std::sync::Arc;

use rookery::cli::demo::person::CallError;
use rookery::lexicon::mls::add_members::AddMembers;
use rookery::log::EntryKind;

use crate::support::TestServer;

const RIVALS: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn of_32_concurrent_commits_on_one_epoch_one_wins_and_31_learn_the_current_epoch() {
    let server = TestServer::start().await;
    let founder = server.person("founder").await;
    let stream = founder.create_convo().await.unwrap();
    let mut drafts = Vec::new();
    for number in 0..RIVALS {
        let invited = server.newcomer(&format!("invited {number}"), 1).await;
        let claimed = founder.claim(&stream, &[invited.did().clone()]).await.unwrap();
        drafts.push(founder.draft_commit(&stream, &claimed, &[]).await.unwrap());
    }

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
