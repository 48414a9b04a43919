//! Consent between accounts of two servers.

use rookery::lexicon::mls::accept_convo::{self, AcceptConvo};
use rookery::lexicon::mls::decline_convo::{self, DeclineConvo};
use rookery::lexicon::mls::list_invitations::ListInvitations;

use super::joining::{arrives, hears, known, until, welcomes};
use crate::support::{Contacts, refused};

#[tokio::test(flavor = "multi_thread")]
async fn two_who_never_met_agree_across_servers_and_only_then_one_invites_the_other() {
    let servers = known(2, &[("INVITATIONS", "contacts")]).await;
    let (alice, bob) = (servers[0].person("alice").await, servers[1].person("bob").await);
    let stream = alice.create_convo().await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"));

    assert_eq!(alice.relate(&bob, "request").await.unwrap(), "outgoing");
    until("the request", async || (bob.stands(&alice).await == "incoming").then_some(())).await;
    assert_eq!(bob.relate(&alice, "accept").await.unwrap(), "accepted");
    until("the agreement", async || (alice.stands(&bob).await == "accepted").then_some(())).await;

    alice.add_members(&stream, &[bob.did().clone()]).await.unwrap();
    arrives(&bob, &stream).await;
    let sent = alice.send(&stream, b"now we may").await.unwrap();
    hears(&bob, &stream, sent.seq).await;

    assert_eq!(bob.relate(&alice, "remove").await.unwrap(), "none");
    until("the end", async || (alice.stands(&bob).await == "none").then_some(())).await;
    let other = alice.create_convo().await.unwrap();
    assert_eq!(alice.claims(&other, bob.did()).await.as_deref(), Some("consentRequired"));
    assert_eq!(alice.claims(&stream, bob.did()).await, None, "where he is, a device of his may be added");
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_from_another_server_waits_for_the_person_and_nothing_is_followed_before() {
    let servers = known(2, &[("INVITATIONS", "everyone")]).await;
    let (alice, bob) = (servers[0].person("alice").await, servers[1].person("bob").await);
    let listed = async || bob.query::<ListInvitations>(&rookery::lexicon::Nothing {}).await.unwrap().invitations;
    let mut streams: Vec<String> = Vec::new();
    for number in 1..=2 {
        let stream = alice.create_convo().await.unwrap();
        bob.invitations("everyone").await;
        let claimed = alice.claim(&stream, &[bob.did().clone()]).await.unwrap();
        bob.invitations("nobody").await;
        alice.change(&stream, &claimed, &[]).await.unwrap();
        streams.push(stream);
        until("an invitation", async || (listed().await.len() == number).then_some(())).await;
    }
    for one in listed().await {
        assert_eq!((one.inviter.as_ref(), &one.home), (Some(alice.did()), servers[0].did()));
    }
    assert_eq!(welcomes(&bob).await, 0);
    let follows = sqlx::query_scalar::<_, i64>("select count(*) from replica");
    assert_eq!(follows.fetch_one(&mut servers[1].database.connect().await).await.unwrap(), 0);

    let decline = decline_convo::Input { stream: streams[1].clone(), block: None };
    bob.procedure::<DeclineConvo>(&decline).await.unwrap();
    assert_eq!(listed().await.len(), 1);
    let accept = |stream: &str| accept_convo::Input { stream: stream.to_owned() };
    refused(bob.procedure::<AcceptConvo>(&accept(&streams[1])).await, 404, "InvitationNotFound");
    bob.procedure::<AcceptConvo>(&accept(&streams[0])).await.unwrap();
    arrives(&bob, &streams[0]).await;
    let sent = bob.send(&streams[0], b"I took it").await.unwrap();
    hears(&alice, &streams[0], sent.seq).await;
    assert_eq!(listed().await.len(), 0);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_delivered_now_is_delivered_later_and_holds_back_nobody() {
    let mut servers = known(3, &[("INVITATIONS", "everyone")]).await;
    let alice = servers[0].person("alice").await;
    let (bob, carol) = (servers[1].person("bob").await, servers[2].person("carol").await);
    let stream = alice.create_convo().await.unwrap();
    let claimed = alice.claim(&stream, &[bob.did().clone(), carol.did().clone()]).await.unwrap();
    servers[1].pause().await;
    alice.change(&stream, &claimed, &[]).await.unwrap();
    arrives(&carol, &stream).await;
    servers[1].resume(&[&bob]).await;
    arrives(&bob, &stream).await;
    let sent = bob.send(&stream, b"back again").await.unwrap();
    hears(&carol, &stream, sent.seq).await;
    servers.stop().await;
}
