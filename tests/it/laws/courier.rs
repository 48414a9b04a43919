//! Every effect on an account stream happens once, in order, whoever delivers it and whoever dies meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::event::list_events::{ListEvents, Params};
use rookery::log::body::{Body, WelcomeBody};
use rookery::types::{Bytes, StreamId};
use rookery_testkit::Person;
use sqlx::PgConnection;

use crate::support::TestServer;

const ACCOUNTS: usize = 10;
const EFFECTS: u32 = 80;
/// No kind of entry: a row that cannot be appended.
const POISON: i16 = 999;
/// One more failure, and it is set aside.
const LAST_ATTEMPT: i16 = 7;
const PATIENCE: Duration = Duration::from_mins(1);

/// What happened to an account, by number.
fn effect(number: u32) -> Vec<u8> {
    let stream = StreamId::of_genesis(b"somewhere");
    WelcomeBody { stream, device: Vec::new(), refs: vec![Bytes(number.to_be_bytes().to_vec())] }.encode().unwrap()
}

async fn cause(database: &mut PgConnection, accounts: &[i64], kind: i16, attempts: i16, body: &[u8]) {
    let insert = "insert into outbox (account_id, kind, attempts, body, created_at)
                  select account, $2, $3, $4, now() from unnest($1::bigint[]) n (account)";
    sqlx::query(insert).bind(accounts).bind(kind).bind(attempts).bind(body).execute(database).await.unwrap();
}

/// The numbers of the effects on the account, as its devices read them.
async fn effects(person: &Person) -> Vec<u32> {
    let (mut numbers, mut cursor) = (Vec::new(), None);
    loop {
        let page = person.query::<ListEvents>(&Params { cursor, limit: 100 }).await.unwrap();
        for event in page.events.iter().filter(|event| event.kind == "#welcome") {
            let body = WelcomeBody::decode(event.body.as_ref().unwrap().as_slice()).unwrap();
            numbers.push(u32::from_be_bytes(body.refs[0].0.clone().try_into().unwrap()));
        }
        cursor = Some(page.cursor);
        if !page.more {
            return numbers;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn effects_happen_once_and_in_order_with_several_couriers_one_of_which_is_killed() {
    let server = TestServer::start().await;
    let replica = server.replica().await;
    let doomed = server.doomed_replica().await;
    let mut database = server.database.connect().await;
    let (mut people, mut accounts) = (Vec::new(), Vec::new());
    for number in 0..ACCOUNTS {
        let person = Person::new(&format!("account {number}"), server.account(), server.service()).unwrap();
        person.register().await.unwrap();
        let id: i64 = sqlx::query_scalar("select id from account where did = $1")
            .bind(person.did().as_str())
            .fetch_one(&mut database)
            .await
            .unwrap();
        people.push(Arc::new(person));
        accounts.push(id);
    }

    let welcome = rookery::log::EntryKind::Welcome.to_db();
    let mut doomed = Some(doomed);
    for number in 0..EFFECTS {
        cause(&mut database, &accounts, welcome, 0, &effect(number)).await;
        // The couriers keep up, so that the one that is killed has something in hand.
        tokio::time::sleep(Duration::from_millis(10)).await;
        match number {
            20 => cause(&mut database, &accounts[..1], POISON, LAST_ATTEMPT, b"nothing").await,
            40 => doomed.take().unwrap().kill(),
            _ => {}
        }
    }
    // At the end of its queue, so that it is tried for long.
    cause(&mut database, &accounts[1..2], POISON, 0, b"nothing").await;

    let until = Instant::now() + PATIENCE;
    let waiting = "select count(*) from outbox where kind <> 999";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut database).await.unwrap() > 0 {
        assert!(Instant::now() < until, "the couriers are done within {} s", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rest: Vec<(i64, bool)> =
        sqlx::query_as("select account_id, parked_at is not null from outbox order by account_id")
            .fetch_all(&mut database)
            .await
            .unwrap();
    let mut expected = vec![(accounts[0], true), (accounts[1], false)];
    expected.sort_unstable();
    assert_eq!(rest, expected, "set aside, and still tried");
    sqlx::query("delete from outbox").execute(&mut database).await.unwrap();
    server.settled().await;
    for person in &people {
        assert_eq!(effects(person).await, (0..EFFECTS).collect::<Vec<_>>());
    }
    replica.stop().await.unwrap();
    server.stop().await;
}
