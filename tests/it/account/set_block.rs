use rookery::lexicon::account::set_block::{Input, SetBlock};

use crate::support::{Contacts, TestServer, befriend, refused};

#[tokio::test]
async fn a_block_ends_what_stood_there_and_shows_nowhere() {
    let server = TestServer::start_with(&[("INVITATIONS", "contacts")]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 5).await);
    befriend(&alice, &bob).await;
    let stream = alice.create_convo().await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await, None);

    for _ in 0..2 {
        bob.block(&alice, true).await;
    }
    assert_eq!(bob.stands(&alice).await, "none");
    assert_eq!(alice.stands(&bob).await, "accepted", "nobody told her");
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"));
    // As a stranger is told, and whoever may not.
    let stranger = server.person("stranger").await;
    let other = stranger.create_convo().await.unwrap();
    assert_eq!(stranger.claims(&other, bob.did()).await.as_deref(), Some("consentRequired"));

    assert_eq!(alice.relate(&bob, "remove").await.unwrap(), "none");
    assert_eq!(alice.relate(&bob, "request").await.unwrap(), "outgoing", "as if it had been heard");
    assert_eq!(bob.stands(&alice).await, "none");
    bob.block(&alice, false).await;
    assert_eq!(bob.stands(&alice).await, "none", "what was said meanwhile is gone");
    assert_eq!(bob.relate(&alice, "request").await.unwrap(), "accepted", "she asked, and he asks now");
    assert_eq!(alice.claims(&stream, bob.did()).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_block_goes_before_everyone_and_before_a_seat_but_not_before_oneself() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 5).await);
    let stream = alice.create_convo().await.unwrap();
    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    bob.arrive(&stream).await.unwrap();
    bob.block(&alice, true).await;
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"));
    assert!(bob.send(&stream, b"they go on here").await.is_ok());
    bob.invitations("nobody").await;
    let own = bob.create_convo().await.unwrap();
    assert_eq!(bob.claims(&own, bob.did()).await, None, "a further device of his own");
    server.stop().await;
}

#[tokio::test]
async fn a_block_takes_a_certified_device_another_account_and_room() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let input = |account: &rookery::types::Did| Input { account: account.clone(), blocked: true };
    let second = server.second_device(&alice).await;
    refused(second.procedure::<SetBlock>(&input(bob.did())).await, 403, "DeviceUncertified");
    refused(alice.procedure::<SetBlock>(&input(alice.did())).await, 400, "InvalidRequest");
    let fill = "insert into block (account_id, other, created_at)
        select a.id, 'did:web:n' || n || '.example', now() from account a, generate_series(1, 10000) n where a.did = $1";
    let mut database = server.database.connect().await;
    sqlx::query(fill).bind(alice.did().as_str()).execute(&mut database).await.unwrap();
    refused(alice.procedure::<SetBlock>(&input(bob.did())).await, 409, "TooManyBlocks");
    let known = rookery::types::Did::parse("did:web:n7.example").unwrap();
    alice.procedure::<SetBlock>(&input(&known)).await.unwrap();
    server.stop().await;
}
