use rookery::lexicon::account::list_relationships::{self, ListRelationships};
use rookery::lexicon::account::set_relationship::{Input, SetRelationship};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::log::body::{Body, RelationshipBody};
use rookery::types::{Bytes, Clock};
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, befriend, certify, refused};

/// What the account's stream says about its relationships, oldest first.
async fn told(server: &TestServer, person: &Person) -> Vec<(String, Option<Vec<u8>>)> {
    server.settled().await;
    let page = person.query::<ListEvents>(&list_events::Params { cursor: None, limit: 100 }).await.unwrap();
    let entries = page.events.into_iter().filter(|event| event.kind == "#relationship");
    let body =
        |event: rookery::lexicon::event::defs::Event| RelationshipBody::decode(event.body.unwrap().as_slice()).unwrap();
    entries.map(body).map(|body| (body.state, body.note.map(|note| note.0))).collect()
}

#[tokio::test]
async fn a_request_is_agreed_to_and_ended_and_both_sides_hear_of_it() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let note = Some(Bytes(vec![7; 1024]));
    let ask = Input { account: bob.did().clone(), change: "request".to_owned(), note };
    for _ in 0..2 {
        assert_eq!(alice.procedure::<SetRelationship>(&ask).await.unwrap().state, "outgoing", "a repeat says the same");
    }
    assert_eq!((alice.stands(&bob).await.as_str(), bob.stands(&alice).await.as_str()), ("outgoing", "incoming"));
    let listed = bob.query::<ListRelationships>(&list_relationships::Params { state: None, limit: 1, cursor: None });
    assert_eq!(listed.await.unwrap().relationships[0].note, Some(Bytes(vec![7; 1024])));

    for _ in 0..2 {
        assert_eq!(bob.relate(&alice, "accept").await.unwrap(), "accepted");
    }
    assert_eq!(alice.stands(&bob).await, "accepted");
    assert_eq!(alice.relate(&bob, "remove").await.unwrap(), "none");
    assert_eq!(bob.stands(&alice).await, "none", "it ended for both");

    let states = |told: Vec<(String, _)>| told.into_iter().map(|(state, _)| state).collect::<Vec<_>>();
    let heard = told(&server, &bob).await;
    assert_eq!(heard[0].1, Some(vec![7; 1024]), "with the request alone");
    assert!(heard[1..].iter().all(|(_, note)| note.is_none()));
    assert_eq!(states(heard), ["incoming", "accepted", "none"]);
    assert_eq!(states(told(&server, &alice).await), ["outgoing", "accepted", "none"]);
    server.stop().await;
}

#[tokio::test]
async fn two_who_ask_each_other_agree_and_a_declined_request_is_not_told() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    alice.relate(&bob, "request").await.unwrap();
    assert_eq!(bob.relate(&alice, "request").await.unwrap(), "accepted");
    assert_eq!(alice.stands(&bob).await, "accepted");

    let carol = server.newcomer("carol", 0).await;
    carol.relate(&bob, "request").await.unwrap();
    assert_eq!(bob.relate(&carol, "remove").await.unwrap(), "none");
    assert_eq!(carol.stands(&bob).await, "outgoing", "as if nobody had looked");
    assert_eq!(carol.relate(&bob, "remove").await.unwrap(), "none");
    assert_eq!(bob.relate(&carol, "remove").await.unwrap(), "none", "nothing was there");
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_asked_or_too_long_ago_cannot_be_agreed_to() {
    let clock = Clock::manual(Clock::System.now());
    let server = TestServer::start_at(clock.clone(), &[]).await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    refused(bob.relate(&alice, "accept").await, 404, "RelationshipNotFound");
    alice.relate(&bob, "request").await.unwrap();
    refused(alice.relate(&bob, "accept").await, 404, "RelationshipNotFound");
    clock.advance_ms(7 * 24 * 60 * 60 * 1000 + 1);
    refused(bob.relate(&alice, "accept").await, 404, "RelationshipNotFound");
    assert_eq!((alice.stands(&bob).await.as_str(), bob.stands(&alice).await.as_str()), ("none", "none"));
    alice.relate(&bob, "request").await.unwrap();
    assert_eq!(bob.relate(&alice, "accept").await.unwrap(), "accepted", "asked anew");
    server.stop().await;
}

#[tokio::test]
async fn an_account_has_10000_contacts_and_requests_and_200_of_others_wait() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    let mut database = server.database.connect().await;
    let fill = "insert into relationship (account_id, other, state, updated_at, expires_at)
        select a.id, 'did:web:n' || n || '.example', $2, now() + make_interval(secs => n), now() + interval '1 day'
        from account a, generate_series(1, $3) n where a.did = $1";
    sqlx::query(fill).bind(alice.did().as_str()).bind(1_i16).bind(10_000).execute(&mut database).await.unwrap();
    refused(alice.relate(&bob, "request").await, 409, "TooManyRelationships");
    assert_eq!(bob.stands(&alice).await, "none");

    sqlx::query(fill).bind(bob.did().as_str()).bind(2_i16).bind(200).execute(&mut database).await.unwrap();
    let carol = server.newcomer("carol", 0).await;
    sqlx::query("update relationship set updated_at = updated_at - interval '1 day'")
        .execute(&mut database)
        .await
        .unwrap();
    carol.relate(&bob, "request").await.unwrap();
    let waiting = "select count(*), min(other) filter (where other like '%:n1.example')
                   from relationship r join account a on a.id = r.account_id where a.did = $1 and r.state = 2";
    let waiting = sqlx::query_as::<_, (i64, Option<String>)>(waiting).bind(bob.did().as_str());
    assert_eq!(waiting.fetch_one(&mut database).await.unwrap(), (200, None), "the oldest gave way");
    assert_eq!(bob.stands(&carol).await, "incoming");
    server.stop().await;
}

#[tokio::test]
async fn nobody_relates_to_itself_and_no_uncertified_device_says_anything() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.newcomer("alice", 0).await, server.newcomer("bob", 0).await);
    refused(alice.relate(&alice, "request").await, 400, "InvalidRequest");
    refused(alice.relate(&bob, "befriend").await, 400, "InvalidRequest");
    let second = server.second_device(&alice).await;
    refused(second.relate(&bob, "request").await, 403, "DeviceUncertified");
    befriend(&alice, &bob).await;
    certify(&alice, &second).await;
    assert_eq!(second.stands(&bob).await, "accepted");
    server.stop().await;
}
