use rookery::lexicon::account::list_relationships::{ListRelationships, Output, Params};
use rookery::types::Did;
use rookery_client::Service;

use crate::support::{AccountToken, Contacts, TestServer, befriend, paged, refused};

fn page(state: Option<&str>, limit: u64, cursor: Option<String>) -> Params {
    Params { state: state.map(str::to_owned), limit, cursor }
}

#[tokio::test]
async fn contacts_and_requests_come_in_pages_by_did_and_by_state() {
    let server = TestServer::start().await;
    let alice = server.newcomer("alice", 0).await;
    let mut expected: Vec<(Did, String)> = Vec::new();
    for number in 0..6 {
        let other = server.newcomer(&format!("other {number}"), 0).await;
        let state = match number % 3 {
            0 => alice.relate(&other, "request").await.unwrap(),
            1 => {
                other.relate(&alice, "request").await.unwrap();
                "incoming".to_owned()
            }
            _ => {
                befriend(&alice, &other).await;
                "accepted".to_owned()
            }
        };
        expected.push((other.did().clone(), state));
    }
    expected.sort();
    let of = |state: Option<&str>| -> Vec<(Did, String)> {
        expected.iter().filter(|(_, found)| state.is_none_or(|state| state == found)).cloned().collect()
    };
    for (state, limit) in [(None, 1), (None, 4), (None, 100), (Some("incoming"), 1), (Some("accepted"), 2)] {
        let seen = paged(async |cursor| {
            let answer = alice.query::<ListRelationships>(&page(state, limit, cursor)).await.unwrap();
            let shown = |one: rookery::lexicon::account::list_relationships::Relationship| {
                assert_eq!(one.expires_at.is_none(), one.state == "accepted");
                (one.account, one.state)
            };
            (answer.relationships.into_iter().map(shown).collect(), answer.cursor)
        });
        assert_eq!(seen.await, of(state), "{state:?}, {limit} a page");
    }
    refused(alice.query::<ListRelationships>(&page(Some("none"), 1, None)).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn a_pds_may_ask_for_its_account_also_for_one_that_is_not_here() {
    let server = TestServer::start_with(&[("INVITATIONS", "nobody")]).await;
    let stranger = rookery_testkit::Person::new("stranger", server.account(), server.service()).unwrap();
    let token = stranger.service_token("blue.catbird.account.listRelationships");
    let service: &Service = stranger.service();
    let answer = service.query::<ListRelationships>(&page(None, 50, None), || Some(token.clone())).await.unwrap();
    assert_eq!(answer, Output { relationships: vec![], invitations: "nobody".to_owned(), cursor: None });
    server.stop().await;
}
