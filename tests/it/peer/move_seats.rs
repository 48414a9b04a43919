use rookery::lexicon::account::import_data::{ImportData, Input};
use serde_json::json;

use super::deliver::Foreign;
use crate::federation::joining::{arrives, hears, known, two};
use crate::support::{Answer, bring, idem, refused, send_many};

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

/// A conversation of a moving account: 20 of them hold 5,000 messages together, and one holds more than one request.
fn messages_of(number: u32) -> u32 {
    if number == 0 { 915 } else { 215 }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_5000_entries_in_20_conversations_moves() {
    let servers = known(3, &[("INVITATIONS", "everyone")]).await;
    let (alice, bob) = (servers[0].person("alice").await, servers[1].person("bob").await);
    let (mut seats, mut said) = (Vec::new(), 0);
    for number in 0..20 {
        let stream = alice.create_convo().await.unwrap();
        bring(&servers[0], &stream, &alice, &bob, &servers[1]).await;
        send_many(&servers[0], &stream, &alice, messages_of(number)).await;
        said += messages_of(number);
        seats.push(rookery::lexicon::account::import_data::Seat {
            stream,
            home: servers[0].did().clone(),
            from_seq: 4,
            role: "member".to_owned(),
        });
    }
    assert_eq!(said, 5_000);
    let service = rookery_client::Service::new(&servers[2].url(), servers[2].did().clone()).unwrap();
    bob.service().move_to(&servers[1].url());
    let moved = bob.at(service.into());
    moved.register().await.unwrap();
    servers[2].houses(bob.account());
    for number in 0..3 {
        servers[number].server().services().federation.look_again(bob.did()).await;
    }
    let input = Input {
        invitations: None,
        relationships: None,
        blocks: None,
        seats: Some(seats.clone()),
        welcomes: None,
        homes: None,
    };
    moved.procedure::<ImportData>(&input).await.unwrap();
    for (number, seat) in (0..).zip(&seats) {
        let entries = crate::federation::joining::until("everything is there", async || {
            let entries = moved.entries(&seat.stream, 0).await.unwrap_or_default();
            let messages = entries.iter().filter(|entry| entry.kind == "#message" && entry.body.is_some()).count();
            (messages == messages_of(number) as usize).then_some(entries)
        })
        .await;
        assert!(entries.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    }
    // The follower still follows, and gets later entries there.
    for seat in &seats {
        let sent = alice.send(&seat.stream, b"wherever you are").await.unwrap();
        crate::federation::joining::until("the new server follows", async || {
            let entries = moved.entries(&seat.stream, sent.seq - 1).await.unwrap_or_default();
            (!entries.is_empty()).then_some(())
        })
        .await;
    }
    servers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_seats_takes_no_seat_beyond_its_bytes() {
    let foreign = Foreign::start(&[]).await;
    for _ in 0..2 {
        foreign.bob.create_convo().await.unwrap();
    }
    // 1,990 others were there before him, each with a name and a device that take some 2,200 bytes.
    let mut database = foreign.servers[0].database.connect().await;
    for crowd in [
        "update seat set from_seq = 3",
        "insert into account (did, created_at)
         select 'did:example:' || repeat('x', 2020) || n, now() from generate_series(1, 1990) n",
        "insert into seat (stream_id, account_id, from_seq, role, server)
         select s.id, a.id, 2, 2, 'did:web:crowd.example' from convo c join stream s on s.id = c.stream_id,
                account a where a.did like 'did:example:%'",
        "insert into device (account_id, public_id, public_key, alg, kind, state, created_at)
         select a.id, 'dev_' || repeat('d', 48) || a.id, '', 'EdDSA', 'app', 'foreign', now()
         from account a where a.did like 'did:example:%'",
        "insert into seat_device (stream_id, device_id, account_id, from_seq)
         select c.stream_id, d.id, d.account_id, 2 from convo c, device d where d.state = 'foreign'",
        "analyze",
    ] {
        sqlx::query(crowd).execute(&mut database).await.unwrap();
    }
    foreign.servers.directory.add_at(foreign.bob.account(), &foreign.stranger.origin);
    foreign.servers[0].server().services().federation.look_again(foreign.bob.did()).await;
    let mut input = json!({});
    for last in [false, true] {
        let page = foreign.call("blue.catbird.peer.moveSeats", Some((foreign.bob.did(), "")), input.clone()).await;
        assert_eq!(page.outcome(), (200, ""), "{}", page.body);
        assert_eq!(page.body["seats"].as_array().unwrap().len(), 1);
        assert_eq!(page.body["seats"][0]["view"]["members"].as_array().unwrap().len(), 1_991, "they and he");
        assert!(page.body.to_string().len() < 8 << 20);
        assert_eq!(page.body["cursor"].is_null(), last);
        input["cursor"] = page.body["cursor"].clone();
    }
    foreign.stop().await;
}
