use rookery::lexicon::account::list_blocks::{ListBlocks, Params};
use rookery::types::Did;

use crate::support::{Contacts, TestServer, paged};

#[tokio::test]
async fn blocks_come_in_pages_by_did_to_their_own_account_alone() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let mut expected: Vec<Did> = Vec::new();
    for number in 0..5 {
        let other = server.newcomer(&format!("other {number}"), 0).await;
        alice.block(&other, true).await;
        expected.push(other.did().clone());
    }
    expected.sort();
    for limit in [1, 2, 5, 100] {
        let seen = paged(async |cursor| {
            let answer = alice.query::<ListBlocks>(&Params { limit, cursor }).await.unwrap();
            (answer.blocks.into_iter().map(|block| block.account).collect(), answer.cursor)
        });
        assert_eq!(seen.await, expected, "{limit} a page");
    }
    let others = bob.query::<ListBlocks>(&Params { limit: 50, cursor: None }).await.unwrap();
    assert_eq!((others.blocks.len(), others.cursor), (0, None));
    server.stop().await;
}
