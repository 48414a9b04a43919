//! Leaving conversations whose home is unreachable or refuses.

use rookery::lexicon::mls::leave_convo::{Input, LeaveConvo, Output};
use rookery_testkit::Person;

use super::joining::{arrives, hears, known, two, until};
use crate::support::{Events, Federation, idem, refused};

const SETTINGS: &[(&str, &str)] = &[("INVITATIONS", "everyone"), ("REQUEST_TIMEOUT_MS", "3000")];

fn leaving(stream: &str) -> Input {
    Input { stream: stream.to_owned(), idem: idem(), new_admin: None, erase: None, immediate: None }
}

async fn leave(person: &Person, input: &Input) -> Output {
    person.procedure::<LeaveConvo>(input).await.unwrap()
}

async fn is_followed(servers: &Federation) -> bool {
    let followed = sqlx::query_scalar("select ended_at is null from replica");
    followed.fetch_one(&mut servers[1].database.connect().await).await.unwrap()
}

async fn members(person: &Person, stream: &str) -> usize {
    person.convo(stream).await.unwrap().members.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_leaves_an_unreachable_home_that_learns_it_later() {
    let mut servers = known(2, SETTINGS).await;
    let (stream, alice, bob) = two(&servers).await;
    servers[0].pause().await;
    let call = leaving(&stream);
    let left = leave(&bob, &call).await;
    assert_eq!(left.queued, Some(true));
    assert_eq!(leave(&bob, &call).await, left, "a repeat gets the first answer");
    refused(bob.convo(&stream).await, 404, "StreamNotFound");
    refused(bob.entries(&stream, 0).await, 404, "StreamNotFound");
    assert!(!is_followed(&servers).await);
    servers[0].resume(&[&alice]).await;
    let mut database = servers[1].database.connect().await;
    until("the home hears it", async || {
        sqlx::query("update delivery set due_at = now()").execute(&mut database).await.unwrap();
        (members(&alice, &stream).await == 1).then_some(())
    })
    .await;
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_leaves_a_frozen_stream_and_others_stay() {
    let servers = known(2, SETTINGS).await;
    let (stream, alice, bob) = two(&servers).await;
    let carol = servers[1].person("carol").await;
    alice.add_members(&stream, &[carol.did().clone()]).await.unwrap();
    arrives(&carol, &stream).await;
    let mut database = servers[1].database.connect().await;
    let state = "update stream set state = $1 where public_id = $2";
    sqlx::query(state).bind(4_i16).bind(&stream).execute(&mut database).await.unwrap();
    let mut listening = Events::open(&servers[1], &bob, "").await;
    assert_eq!(leave(&bob, &leaving(&stream)).await.queued, Some(true));
    refused(bob.convo(&stream).await, 404, "StreamNotFound");
    assert!(is_followed(&servers).await, "for the other account");
    assert_eq!(members(&carol, &stream).await, 3, "no entry says that he left");

    // Only the other account sees what the home orders later, also on an open subscription.
    sqlx::query(state).bind(0_i16).bind(&stream).execute(&mut database).await.unwrap();
    let sent = alice.send(&stream, b"who is left?").await.unwrap();
    hears(&carol, &stream, sent.seq).await;
    let own = bob.create_convo().await.unwrap();
    let mut heard = Vec::new();
    while heard.last().is_none_or(|(_, of): &(String, String)| *of != own) {
        let (_, kind, data) = listening.event().await;
        heard.push((kind, data["stream"].as_str().unwrap_or_default().to_owned()));
    }
    assert!(heard.iter().any(|(kind, _)| kind == "#invitation"), "his other devices hear that he left: {heard:?}");
    assert!(heard.iter().all(|(_, of)| *of != stream), "{heard:?}");
    servers.stop().await;
}
