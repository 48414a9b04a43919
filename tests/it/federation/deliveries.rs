//! How others are told what is for their accounts: with patience where they ask for it, and not for ever.

use std::sync::Arc;

use rookery::federation::Age;
use rookery::identity::Curve;
use rookery_testkit::{Form, Identity, Person};
use serde_json::json;

use super::joining::until;
use crate::support::{Behaviour, Contacts, Federation, Stranger, Written, allow};

const DELIVER: &str = "blue.catbird.peer.deliver";

/// Somebody who lives on the stranger's server, as far as the directory knows.
fn neighbour(servers: &Federation, stranger: &Stranger) -> Person {
    let account = Identity::plc(Curve::K256, Form::Multikey).unwrap();
    servers.directory.add_at(&account, &stranger.origin);
    Person::new("neighbour", Arc::new(account), servers[0].service()).unwrap()
}

/// State, attempts, and the seconds until the next one.
async fn delivery(servers: &Federation) -> Option<(String, i16, f64)> {
    let found = "select state, attempts, extract(epoch from due_at - now())::float8 from delivery";
    sqlx::query_as(found).fetch_optional(&mut servers[0].database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_patience_is_told_again_when_it_wants_to_be() {
    let (servers, stranger) = (Federation::of(1).await, Stranger::start().await);
    allow(&servers[0], &stranger.did).await;
    let alice = servers[0].person("alice").await;
    for (status, error, asked, waits) in
        [(429, "RateLimitExceeded", 40, 30.0..=40.0), (503, "Unavailable", 1_000_000, 3_500.0..=3_600.0)]
    {
        stranger.behaves(Behaviour::Later(status, json!({ "error": error, "message": "later" }), asked));
        alice.relate(&neighbour(&servers, &stranger), "request").await.unwrap();
        let (state, _, due) = until("an attempt", async || delivery(&servers).await.filter(|it| it.1 == 1)).await;
        assert!(state == "waiting" && waits.contains(&due), "{status}: {due} s");
        tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
        assert_eq!(stranger.asked().iter().filter(|asked| *asked == DELIVER).count(), 1);
        sqlx::query("delete from delivery").execute(&mut servers[0].database.connect().await).await.unwrap();
    }
    servers.stop().await;
}

/// On one thread, so that all that the server does is heard here.
#[tokio::test]
async fn what_is_refused_for_good_is_counted_and_told_to_the_operator_by_the_name_of_the_error() {
    let written = Written::default();
    let _listening = written.listen();
    let metrics = rookery::telemetry::Metrics::install().unwrap();
    let (servers, stranger) = (Federation::of(1).await, Stranger::start().await);
    allow(&servers[0], &stranger.did).await;
    let alice = servers[0].person("alice").await;
    let mut told = Vec::new();
    for (status, error) in [(409, "IdempotencyConflict"), (400, "A name of its own {}")] {
        let neighbour = neighbour(&servers, &stranger);
        stranger.behaves(Behaviour::Answers(status, json!({ "error": error, "message": "no" })));
        alice.relate(&neighbour, "request").await.unwrap();
        until("the end of it", async || delivery(&servers).await.filter(|it| it.0 == "failed")).await;
        sqlx::query("delete from delivery").execute(&mut servers[0].database.connect().await).await.unwrap();
        told.push(neighbour);
    }
    servers.stop().await;
    let (log, shown) = (written.text(), metrics.render());
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("refused for good")).collect();
    for (line, error) in lines.iter().zip(["IdempotencyConflict", "other"]) {
        assert!(line.contains("\"level\":\"WARN\"") && line.contains(stranger.did.as_str()), "{line}");
        assert!(line.contains(&format!("\"error\":\"{error}\"")) && line.contains("consentRequest"), "{line}");
        assert!(told.iter().all(|neighbour| !line.contains(neighbour.did().as_str())), "{line}");
        assert!(shown.contains(&format!("rookery_deliveries_refused_total{{error=\"{error}\"}} 1")), "{shown}");
    }
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_meets_a_server_that_the_account_has_left_goes_to_its_new_one() {
    let (servers, stranger) = (Federation::with(2, &[("INVITATIONS", "contacts")]).await, Stranger::start().await);
    allow(&servers[0], &stranger.did).await;
    let (alice, neighbour) = (servers[0].person("alice").await, neighbour(&servers, &stranger));
    // Known to live with the stranger, a moment before the account moves.
    servers[0].server().services().federation.home_of(neighbour.did(), Age::First).await.unwrap();
    servers[1].houses(neighbour.account());
    let moved = neighbour.at(servers[1].service());
    moved.register().await.unwrap();
    stranger.behaves(Behaviour::Answers(409, json!({ "error": "AccountMoved", "message": "it left" })));
    alice.relate(&neighbour, "request").await.unwrap();
    until("the request", async || (moved.stands(&alice).await == "incoming").then_some(())).await;
    assert_eq!(stranger.asked().iter().filter(|asked| *asked == DELIVER).count(), 1);
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_a_peer_does_not_know_yet_waits_for_its_upgrade() {
    let (servers, stranger) = (Federation::of(1).await, Stranger::start().await);
    allow(&servers[0], &stranger.did).await;
    let alice = servers[0].person("alice").await;
    stranger.behaves(Behaviour::Answers(501, json!({ "error": "KindNotImplemented", "message": "what is that?" })));
    alice.relate(&neighbour(&servers, &stranger), "request").await.unwrap();
    let (state, _, due) = until("an attempt", async || delivery(&servers).await.filter(|it| it.1 == 1)).await;
    assert!(state == "waiting" && (10_700.0..=21_600.0).contains(&due), "{state}, due in {due} s");
    let mut database = servers[0].database.connect().await;
    sqlx::query("update delivery set due_at = now()").execute(&mut database).await.unwrap();
    stranger.behaves(Behaviour::Answers(200, json!({ "state": "pending", "account": { "term": 1, "seq": 1 } })));
    until("the delivery", async || delivery(&servers).await.filter(|it| it.0 == "pending")).await;
    servers.stop().await;
}
