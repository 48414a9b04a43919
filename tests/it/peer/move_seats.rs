use rookery::lexicon::account::import_data::{ImportData, Input};
use serde_json::json;

use super::deliver::Foreign;
use crate::federation::joining::{arrives, hears, known, two};
use crate::support::{Answer, idem, refused};

async fn move_seats(foreign: &Foreign, account: &rookery::types::Did) -> Answer {
    foreign.call("blue.catbird.peer.moveSeats", Some((account, "")), json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_server_that_the_account_names_moves_its_seats() {
    let foreign = Foreign::start(&[]).await;
    let stream = foreign.bob.create_convo().await.unwrap();
    let alice = foreign.servers[0].person("alice").await;
    let stolen = move_seats(&foreign, alice.did()).await;
    assert_eq!(stolen.outcome(), (403, "NotSpokenFor"));
    let nobody = foreign.call("blue.catbird.peer.moveSeats", None, json!({})).await;
    assert_eq!(nobody.outcome(), (400, "ActorRequired"));

    foreign.servers.directory.add_at(foreign.bob.account(), &foreign.stranger.origin);
    foreign.servers[0].server().services().federation.look_again(foreign.bob.did()).await;
    for _ in 0..2 {
        let moved = move_seats(&foreign, foreign.bob.did()).await;
        assert_eq!(moved.outcome(), (200, ""), "{}", moved.body);
        assert_eq!(moved.body["seats"][0]["stream"], json!(stream));
        assert_eq!(moved.body["seats"][0]["fromSeq"], 1);
    }
    let entries = "select count(*) from entry e join stream s on s.id = e.stream_id where s.public_id = $1";
    let entries = sqlx::query_scalar::<_, i64>(entries).bind(&stream);
    let count = entries.fetch_one(&mut foreign.servers[0].database.connect().await).await.unwrap();
    assert_eq!(count, 4, "opened, convo, the founder's seat, and one move for two calls");
    assert_eq!(idem().len(), 32);
    foreign.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moved_goes_on_from_its_new_server() {
    moves(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_moved_to_a_server_that_follows_already_goes_on_from_there() {
    moves(true).await;
}

async fn moves(followed: bool) {
    let servers = known(3, &[("INVITATIONS", "everyone")]).await;
    let (stream, alice, bob) = two(&servers).await;
    if followed {
        let carol = servers[2].person("carol").await;
        alice.add_members(&stream, &[carol.did().clone()]).await.unwrap();
        arrives(&carol, &stream).await;
        hears(&bob, &stream, 5).await;
    }
    let service = rookery_client::Service::new(&servers[2].url(), servers[2].did().clone()).unwrap();
    bob.service().move_to(&servers[1].url());
    let seats = vec![rookery::lexicon::account::import_data::Seat {
        stream: stream.clone(),
        home: servers[0].did().clone(),
        from_seq: 4,
        role: "member".to_owned(),
    }];
    // The same device at its new server.
    let moved = bob.at(service.into());
    moved.register().await.unwrap();
    servers[2].houses(bob.account());
    for number in 0..3 {
        servers[number].server().services().federation.look_again(bob.did()).await;
    }
    refused(moved.entries(&stream, 0).await, 404, "StreamNotFound");
    let input =
        Input { invitations: None, relationships: None, blocks: None, seats: Some(seats), welcomes: None, homes: None };
    moved.procedure::<ImportData>(&input).await.unwrap();
    let sent = alice.send(&stream, b"wherever you are").await.unwrap();
    crate::federation::joining::until("the new server follows", async || {
        let entries = moved.entries(&stream, 0).await.unwrap_or_default();
        entries.iter().any(|entry| entry.seq == sent.seq).then_some(())
    })
    .await;
    let back = moved.send(&stream, b"here").await.unwrap();
    hears(&alice, &stream, back.seq).await;
    assert_eq!(alice.epoch(&stream).await.unwrap(), moved.epoch(&stream).await.unwrap());
    servers.stop().await;
}
