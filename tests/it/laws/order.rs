//! The order of a conversation: dense, unique, and the same for everybody.

use crate::support::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_the_other_member() {
    let server = TestServer::start().await;
    let alice = server.person("alice").await;
    let bob = server.person("bob").await;
    let stream = alice.create_convo().await.unwrap();
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    let sent = alice.send(&stream, b"hello").await.unwrap();
    let entries = bob.entries(&stream, 0).await.unwrap();
    assert_eq!(entries.last().unwrap().seq, sent.seq);
    server.stop().await;
}
