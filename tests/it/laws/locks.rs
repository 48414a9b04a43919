//! A stream that somebody holds delays nobody else: locks are held for one stream, by one connection of an instance, and
//! only where a lock is needed.

use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::mls::leave_convo::{self, LeaveConvo};
use rookery::lexicon::mls::send_message::{self, SendMessage};
use rookery::log::chain::CONTENT_BYTES;
use rookery::log::{Author, Draft, EntryKind, Error};
use rookery::storage;
use rookery_client::Service;
use rookery_testkit::Person;
use sqlx::{Connection, PgConnection};

use super::order::assert_unbroken;
use crate::support::{TestServer, at_once, conversation, eventually, idem, refused};

/// What waits for nothing is answered within this time, on a busy machine too; a lock is waited for eight seconds.
const PROMPT: Duration = Duration::from_secs(4);
/// Calls that wait for one stream: far more than connections.
const WAITERS: usize = 24;
/// Calls of one batch.
const BATCH: usize = 12;

async fn prompt<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(PROMPT, call).await.unwrap_or_else(|_| panic!("{what} waited for {} s", PROMPT.as_secs()))
}

async fn stream_id(database: &mut PgConnection, stream: &str) -> i64 {
    sqlx::query_scalar("select id from stream where public_id = $1").bind(stream).fetch_one(database).await.unwrap()
}

async fn draft(person: &Arc<Person>, stream: &str) -> (Arc<Person>, send_message::Input) {
    (Arc::clone(person), person.draft_message(stream, b"hello").await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_read_position_does_not_delay_the_stream() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let mut database = server.database.connect().await;
    let mut reading = database.begin().await.unwrap();
    sqlx::query(
        "insert into read_position (account_id, stream_id, seq, updated_at)
         select a.id, s.id, 1, now() from account a, stream s where a.did = $1 and s.public_id = $2",
    )
    .bind(people[2].did().as_str())
    .bind(&stream)
    .execute(&mut *reading)
    .await
    .unwrap();

    prompt("a message", people[1].send(&stream, b"hello")).await.unwrap();
    prompt("a commit", people[0].remove_members(&stream, &[people[1].did().clone()])).await.unwrap();
    reading.rollback().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_held_delays_no_other() {
    let server = TestServer::start_with(&[("DATABASE_POOL", "4")]).await;
    let (held, people) = conversation(&server, 3).await;
    let other = people[0].create_convo().await.unwrap();
    let mut drafts = Vec::new();
    for number in 0..WAITERS {
        drafts.push(draft(&people[number % 3], &held).await);
    }
    let mut database = server.database.connect().await;
    let id = stream_id(&mut database, &held).await;
    let mut holder = database.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock($1)").bind(id).execute(&mut *holder).await.unwrap();
    sqlx::query("select 1 from stream where id = $1 for no key update").bind(id).execute(&mut *holder).await.unwrap();

    let mut sending = Vec::new();
    for (person, draft) in drafts {
        sending.push(tokio::spawn(async move { person.procedure::<SendMessage>(&draft).await }));
        // Each in a batch of its own.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    prompt("a message to another stream", people[0].send(&other, b"hello")).await.unwrap();
    prompt("a read", people[1].convo(&held)).await.unwrap();
    prompt("a registration", server.newcomer("newcomer", 1)).await;
    assert_eq!(prompt("readiness", server.ready()).await.0, 200);

    holder.rollback().await.unwrap();
    for task in sending {
        task.await.unwrap().unwrap();
    }
    // The stream is as quick as before: nothing queues up behind what waited.
    for person in &people {
        prompt("a message afterwards", person.send(&held, b"hello")).await.unwrap();
    }
    let entries = people[0].entries(&held, 0).await.unwrap();
    assert_unbroken(&entries);
    assert_eq!(entries.iter().filter(|entry| entry.kind == "#message").count(), WAITERS + people.len());
    server.stop().await;
}

/// The quick path takes no advisory lock: whoever holds one finds out who needs it.
async fn hold<'a>(database: &'a mut PgConnection, stream: &str) -> sqlx::Transaction<'a, sqlx::Postgres> {
    let id = stream_id(database, stream).await;
    let mut holder = database.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock($1)").bind(id).execute(&mut *holder).await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_call_takes_no_lock_of_any_stream() {
    let server = TestServer::start().await;
    // An instance that remembers no call.
    let instance = server.replica().await;
    let elsewhere = Service::new(&format!("http://{}", instance.address()), TestServer::did()).unwrap();
    let (stream, people) = conversation(&server, 2).await;
    let innocent = people[0].create_convo().await.unwrap();
    let mut repeats = Vec::new();
    for _ in 0..BATCH {
        let (person, draft) = draft(&people[1], &stream).await;
        let first = person.procedure::<SendMessage>(&draft).await.unwrap();
        repeats.push((draft, first));
    }
    let mut fresh = Vec::new();
    for _ in 0..BATCH {
        fresh.push(draft(&people[0], &innocent).await.1);
    }
    for person in &people {
        person.service().move_to(&elsewhere.url());
    }
    let (mut one, mut two) = (server.database.connect().await, server.database.connect().await);
    let (first_holder, second_holder) = (hold(&mut one, &stream).await, hold(&mut two, &innocent).await);

    let calls = repeats.into_iter().zip(fresh).map(|((repeat, first), fresh)| {
        let (alice, bob) = (Arc::clone(&people[0]), Arc::clone(&people[1]));
        async move {
            let again = bob.procedure::<SendMessage>(&repeat);
            let (again, fresh) = tokio::join!(again, alice.procedure::<SendMessage>(&fresh));
            assert_eq!(again.unwrap(), first, "the first answer");
            fresh.unwrap();
        }
    });
    prompt("a batch with repeats", at_once(calls)).await;
    first_holder.rollback().await.unwrap();
    second_holder.rollback().await.unwrap();
    instance.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_message_takes_no_lock() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let late = people[1].draft_message(&stream, b"too late").await.unwrap();
    people[0].remove_members(&stream, &[people[2].did().clone()]).await.unwrap();
    people[1].arrive(&stream).await.unwrap();

    let mut database = server.database.connect().await;
    let holder = hold(&mut database, &stream).await;
    let answer = prompt("a refusal", people[1].procedure::<SendMessage>(&late)).await;
    refused(answer, 409, "EpochTooOld");
    let answer = prompt("a refusal", people[2].send(&stream, b"gone")).await;
    refused(answer, 403, "NotMember");
    prompt("a message beside refusals", people[1].send(&stream, b"in time")).await.unwrap();
    holder.rollback().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_reads_holds_back_no_reader() {
    let server = TestServer::start_secluded(&[]).await;
    let (stream, people) = conversation(&server, 2).await;
    let id = stream_id(&mut server.database.connect().await, &stream).await;
    let log = &server.server().services().log;
    let mut tx = log.lock(id).await.unwrap();
    tx.roster().await.unwrap();
    let writers =
        "select count(*) from pg_stat_activity where backend_xid is not null and datname = current_database()";
    let mut database = server.database.connect().await;
    // Workers of the server write now and then; the open transaction stays without an id.
    eventually("no transaction has an id before its first write", async || {
        sqlx::query_scalar::<_, i64>(writers).fetch_one(&mut server.database.connect().await).await.unwrap() == 0
    })
    .await;
    tx.begin_writes().await.unwrap();
    let open: i64 = sqlx::query_scalar(writers).fetch_one(&mut database).await.unwrap();
    assert!(open >= 1);
    tx.rollback().await.unwrap();

    // What writes first and reads then is found by builds with debug assertions.
    let mut tx = log.lock(id).await.unwrap();
    sqlx::query("update account set invitations = null").execute(tx.conn()).await.unwrap();
    let found = tx.begin_writes().await.unwrap_err();
    assert!(matches!(found, Error::WroteTooSoon), "{found}");
    drop(tx);
    people[1].send(&stream, b"the lock is free again").await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_too_many_rows_is_refused() {
    let server = TestServer::start().await;
    for (rows, taken) in [(4_096, true), (4_097, false)] {
        let mut tx = server.server().services().storage.begin().await.unwrap();
        let insert =
            "insert into account (did, created_at) select 'did:plc:' || $1 || g, now() from generate_series(1, $1) g";
        sqlx::query(insert).bind(rows).execute(tx.conn()).await.unwrap();
        let outcome = tx.commit().await;
        assert_eq!(outcome.is_ok(), taken, "{rows} rows");
        if let Err(error) = outcome {
            assert!(matches!(error, storage::Error::TooManyRows { rows: 4_097, .. }), "{error}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_no_follower_takes_is_not_written() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let mut database = server.database.connect().await;
    let id = stream_id(&mut database, &stream).await;
    let (account_id, device_row) =
        sqlx::query_as("select a.id, d.id from account a join device d on d.account_id = a.id where a.did = $1")
            .bind(people[0].did().as_str())
            .fetch_one(&mut database)
            .await
            .unwrap();
    let author = Author { account_id, device_row, did: people[0].did().clone(), device: people[0].device().clone() };
    let mut tx = server.server().services().log.lock(id).await.unwrap();
    let seat = tx.seat(&author, false).await.unwrap();
    let draft = Draft { kind: EntryKind::Message, epoch: None, body: vec![0; CONTENT_BYTES], identity: None };
    let error = tx.append(&seat, draft).await.unwrap_err();
    assert!(matches!(error, Error::ContentTooLarge { .. }), "{error}");
    drop(tx);
    people[1].send(&stream, b"nothing has changed").await.unwrap();
    server.stop().await;
}

/// A call whose body comes in two halves.
mod slow {
    use rookery::lexicon::Method;
    use rookery_testkit::Person;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::support::TestServer;

    pub struct SlowCall {
        socket: TcpStream,
        rest: Vec<u8>,
    }

    impl SlowCall {
        /// Sends the head and half of the body; the server has proven the caller when this returns.
        pub async fn begin<M: Method>(server: &TestServer, person: &Person, input: &M::Input) -> Self {
            let body = serde_json::to_vec(input).unwrap();
            let host = server.server().address();
            let head = format!(
                "POST /xrpc/{} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
                 connection: close\r\ncontent-length: {}\r\n\r\n",
                M::NSID,
                person.token(M::NSID),
                body.len()
            );
            let mut socket = TcpStream::connect(host).await.unwrap();
            let (first, rest) = body.split_at(body.len() / 2);
            socket.write_all(&[head.as_bytes(), first].concat()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            Self { socket, rest: rest.to_vec() }
        }

        /// Sends the rest. Answers the whole response.
        pub async fn end(mut self) -> String {
            self.socket.write_all(&self.rest).await.unwrap();
            let mut answer = String::new();
            self.socket.read_to_string(&mut answer).await.unwrap();
            answer
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_revoked_while_its_call_arrives_writes_nothing() {
    use rookery::lexicon::account::revoke_device::{Input, RevokeDevice};

    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let (alice, bob) = (&people[0], &people[1]);
    // What the writer remembers of Bob must not help him.
    bob.send(&stream, b"remembered").await.unwrap();
    let message = bob.draft_message(&stream, b"late").await.unwrap();
    let leaving =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let sending = slow::SlowCall::begin::<SendMessage>(&server, bob, &message).await;
    let leaves = slow::SlowCall::begin::<LeaveConvo>(&server, bob, &leaving).await;
    bob.procedure::<RevokeDevice>(&Input { device: bob.device().to_string(), revocation: None }).await.unwrap();
    for call in [sending, leaves] {
        let answer = call.end().await;
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("DeviceRevoked"), "{answer}");
    }
    let entries = alice.entries(&stream, 0).await.unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.kind == "#message").count(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_suspended_while_its_call_arrives_writes_nothing() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let bob = &people[1];
    bob.send(&stream, b"remembered").await.unwrap();
    let message = bob.draft_message(&stream, b"late").await.unwrap();
    let leaving =
        leave_convo::Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: None, immediate: None };
    let sending = slow::SlowCall::begin::<SendMessage>(&server, bob, &message).await;
    let leaves = slow::SlowCall::begin::<LeaveConvo>(&server, bob, &leaving).await;
    let mut database = server.database.connect().await;
    sqlx::query("update account set suspended_at = now() where did = $1")
        .bind(bob.did().as_str())
        .execute(&mut database)
        .await
        .unwrap();
    for call in [sending, leaves] {
        let answer = call.end().await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("AccountSuspended"), "{answer}");
    }
    let entries = people[0].entries(&stream, 0).await.unwrap();
    assert_eq!(entries.iter().filter(|entry| entry.kind == "#message").count(), 1);
    server.stop().await;
}
