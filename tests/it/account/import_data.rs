use rookery::lexicon::account::import_data::{ImportData, Input, Output, Relationship, Seat};
use rookery::types::Did;
use rookery_client::CallError;
use rookery_testkit::Person;

use crate::support::{Contacts, TestServer, refused};

fn brings(person: &Person, invitations: &str) -> Input {
    let relationship = Relationship { account: person.did().clone(), state: "accepted".to_owned() };
    Input {
        invitations: Some(invitations.to_owned()),
        relationships: Some(vec![relationship]),
        blocks: None,
        seats: None,
        welcomes: None,
        homes: None,
    }
}

async fn import(person: &Person, input: &Input) -> Result<Output, CallError> {
    person.procedure::<ImportData>(input).await
}

#[tokio::test]
async fn what_is_here_stays_and_a_repeat_changes_nothing() {
    let server = TestServer::start_with(&[("FEDERATION", "open"), ("INVITATIONS", "everyone")]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 3).await);
    for _ in 0..2 {
        assert_eq!(import(&bob, &brings(&alice, "contacts")).await.unwrap(), Output { waiting: vec![] });
    }
    assert_eq!(bob.stands(&alice).await, "accepted");
    let stream = alice.create_convo().await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await, None, "a contact that he brought");
    bob.relate(&alice, "remove").await.unwrap();
    bob.invitations("nobody").await;
    import(&bob, &brings(&alice, "everyone")).await.unwrap();
    assert_eq!(alice.claims(&stream, bob.did()).await.as_deref(), Some("consentRequired"), "what he said here holds");
    server.stop().await;
}

#[tokio::test]
async fn it_takes_a_certified_device() {
    let server = TestServer::start_with(&[("FEDERATION", "open")]).await;
    let (alice, bob) = (server.person("alice").await, server.newcomer("bob", 0).await);
    let second = server.second_device(&bob).await;
    refused(import(&second, &brings(&alice, "nobody")).await, 403, "DeviceUncertified");
    refused(import(&bob, &brings(&alice, "friends")).await, 400, "InvalidRequest");
    server.stop().await;
}

/// Imports data with the names of `count` homes that no server has.
fn homes(from: usize, count: usize) -> Input {
    let home = |number| Did::parse(&format!("did:web:h{number}.invalid")).unwrap();
    Input {
        invitations: None,
        relationships: None,
        blocks: None,
        seats: None,
        welcomes: None,
        homes: Some((from..from + count).map(home).collect()),
    }
}

async fn waiting(server: &TestServer) -> i64 {
    let count = sqlx::query_scalar("select count(*) from delivery where state = 'waiting'");
    count.fetch_one(&mut server.database.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_server_that_does_not_federate_takes_no_import() {
    let server = TestServer::start_with(&[("FEDERATION", "off")]).await;
    let bob = server.newcomer("bob", 0).await;
    refused(import(&bob, &homes(0, 1)).await, 403, "FederationOff");
    assert_eq!(waiting(&server).await, 0);
    server.stop().await;
}

#[tokio::test]
async fn an_account_has_200_waiting_deliveries_at_most() {
    let server = TestServer::start_with(&[("FEDERATION", "open")]).await;
    let (bob, carol) = (server.newcomer("bob", 0).await, server.newcomer("carol", 0).await);
    for _ in 0..2 {
        import(&bob, &homes(0, 100)).await.unwrap();
    }
    assert_eq!(waiting(&server).await, 100, "one delivery to each home");
    import(&bob, &homes(100, 100)).await.unwrap();
    refused(import(&bob, &homes(200, 1)).await, 429, "RateLimitExceeded");
    assert_eq!(waiting(&server).await, 200);
    import(&carol, &homes(0, 1)).await.unwrap();
    let mut nobody = homes(0, 1);
    nobody.homes = Some(vec![bob.did().clone()]);
    refused(import(&carol, &nobody).await, 400, "InvalidRequest");
    server.stop().await;
}

#[tokio::test]
async fn a_second_delivery_to_a_home_covers_all_seats() {
    let server = TestServer::start_with(&[("FEDERATION", "open")]).await;
    let bob = server.newcomer("bob", 0).await;
    let mut some = homes(0, 1);
    let home = some.homes.take().unwrap().remove(0);
    for stream in ["scwfgagcsyqhmdj7pbehnj6jvili52f63", "sfqpona3sefnrzydeijvvzw6u54sydlha"] {
        let seat = Seat { stream: stream.to_owned(), home: home.clone(), from_seq: 4, role: "member".to_owned() };
        some.seats = Some(vec![seat]);
        import(&bob, &some).await.unwrap();
    }
    let bodies = sqlx::query_scalar::<_, serde_json::Value>("select body from delivery where state = 'waiting'");
    let bodies = bodies.fetch_all(&mut server.database.connect().await).await.unwrap();
    assert_eq!(bodies, [serde_json::json!({ "streams": null })]);
    server.stop().await;
}

#[tokio::test]
async fn old_deliveries_go_where_federation_is_off() {
    let server = TestServer::start_with(&[("FEDERATION", "off")]).await;
    let mut database = server.database.connect().await;
    let old = "insert into delivery (public_id, peer, account, kind, body, refs, created_at, due_at)
        select 'd' || n, 'did:web:h.invalid', 'did:plc:a' || n, 'moveSeats', '{}', '{}',
               now() - make_interval(days => n), now() from generate_series(28, 32) n";
    sqlx::query(old).execute(&mut database).await.unwrap();
    server.server().services().joining.sweep().await.unwrap();
    let kept: Vec<String> =
        sqlx::query_scalar("select public_id from delivery order by 1").fetch_all(&mut database).await.unwrap();
    assert_eq!(kept, ["d28", "d29"]);
    server.stop().await;
}
