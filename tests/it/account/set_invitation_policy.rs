use rookery::lexicon::account::list_relationships::{ListRelationships, Params};
use rookery::lexicon::account::set_invitation_policy::{Input, SetInvitationPolicy};

use crate::support::{Contacts, TestServer, befriend, refused};

#[tokio::test]
async fn an_account_says_who_may_invite_it_and_until_then_the_server_does() {
    let server = TestServer::start_with(&[("INVITATIONS", "contacts")]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 6).await);
    let stream = alice.create_convo().await.unwrap();
    let in_force = async || {
        let params = Params { state: None, limit: 1, cursor: None };
        bob.query::<ListRelationships>(&params).await.unwrap().invitations
    };
    assert_eq!(in_force().await, "contacts");
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"));
    bob.invitations("everyone").await;
    assert_eq!(in_force().await, "everyone");
    assert_eq!(alice.claims(&stream, bob.did()).await, None);
    befriend(&alice, &bob).await;
    bob.invitations("nobody").await;
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"), "contacts neither");
    bob.invitations("contacts").await;
    assert_eq!(alice.claims(&stream, bob.did()).await, None);
    server.stop().await;
}

#[tokio::test]
async fn a_refused_claim_takes_no_package_and_does_not_say_whether_there_are_any() {
    let server = TestServer::start_with(&[("INVITATIONS", "contacts")]).await;
    let (alice, bob, poor) =
        (server.person("alice").await, server.newcomer("bob", 1).await, server.newcomer("poor", 0).await);
    let stream = alice.create_convo().await.unwrap();
    for target in [&bob, &poor] {
        assert_eq!(alice.claims(&stream, target.did()).await.as_deref(), Some("consentRequired"));
    }
    befriend(&alice, &bob).await;
    assert_eq!(alice.claims(&stream, bob.did()).await, None, "his one package is still there");
    server.stop().await;
}

#[tokio::test]
async fn it_takes_a_certified_device_and_a_policy_that_there_is() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    let second = server.second_device(&alice).await;
    let input = |policy: &str| Input { invitations: policy.to_owned() };
    refused(second.procedure::<SetInvitationPolicy>(&input("nobody")).await, 403, "DeviceUncertified");
    refused(alice.procedure::<SetInvitationPolicy>(&input("friends")).await, 400, "InvalidRequest");
    server.stop().await;
}
