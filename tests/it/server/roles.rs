//! Instances that do a part of a server's work: calls and sockets, or background work.

use std::sync::Arc;
use std::time::Duration;

use rookery::identity::http::plain;
use rookery::lexicon::mls::leave_convo::{Input, LeaveConvo};
use rookery_testkit::Directory;
use serde_json::Value;
use sqlx::PgConnection;
use sqlx::postgres::PgListener;

use crate::support::{Process, TestDatabase, TestServer, eventually, grow, idem, open_folder, person};

/// Several looks of every background worker.
const LOOKS: Duration = Duration::from_secs(4);

/// Work that waits for a background worker: notices, and messages to be erased.
async fn waiting(database: &mut PgConnection) -> (i64, i64) {
    let waiting = "select (select count(*) from outbox), (select count(*) from erasure_job)";
    sqlx::query_as(waiting).fetch_one(database).await.unwrap()
}

async fn get(process: &Process, path: &str) -> (u16, Value) {
    let answer = plain().unwrap().get(format!("{}{path}", process.url())).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_what_an_api_instance_leaves() {
    let (directory, folder) = (Directory::start().await.unwrap(), open_folder());
    let database = TestDatabase::create().await;
    let process = Process::new(folder.path(), &directory.url(), Some(&database.url))
        .with("SERVICE_DID", TestServer::did().as_str())
        .with("PUBLIC_URL", "https://rookery.test");
    let mut connection = database.connect().await;
    let mut api = process.beside().with("SERVER_ROLE", "api");
    api.spawn();
    api.ready().await;

    // Calls work without a worker, and their effects elsewhere wait.
    let service = Arc::new(api.service(TestServer::did()));
    let mut people = Vec::new();
    for name in ["founder", "member"] {
        people.push(person(name, &directory, &service).await);
    }
    let stream = people[0].create_convo().await.unwrap();
    grow(&people, &stream).await;
    people[1].send(&stream, b"to be erased").await.unwrap();
    let leaving = Input { stream: stream.clone(), idem: idem(), new_admin: None, erase: Some(true), immediate: None };
    people[1].procedure::<LeaveConvo>(&leaving).await.unwrap();
    tokio::time::sleep(LOOKS).await;
    let (notices, erasures) = waiting(&mut connection).await;
    assert!(notices > 0 && erasures == 1, "{notices} notices, {erasures} erasures");

    // The worker does it, and answers no call.
    let mut worker = process.beside().with("SERVER_ROLE", "worker");
    worker.spawn();
    worker.ready().await;
    let mut own = database.connect().await;
    eventually("the worker does what waits", async || waiting(&mut own).await == (0, 0)).await;
    for path in ["/xrpc/blue.catbird.mls.getConvos", "/.well-known/did.json", "/nothing"] {
        let (status, body) = get(&worker, path).await;
        assert_eq!((status, &body["error"]), (503, &"NotServedHere".into()), "{path}");
        assert_ne!(get(&api, path).await.1["error"], "NotServedHere", "{path}");
    }
    assert_eq!(get(&worker, "/health/live").await.0, 200);
    let roles: Vec<String> =
        sqlx::query_scalar("select role from instance order by role").fetch_all(&mut connection).await.unwrap();
    assert_eq!(roles, ["api", "worker"]);

    // The worker hears of new work from the other instance, before it looks by itself.
    let mut signals = PgListener::connect(&database.url).await.unwrap();
    signals.listen("rookery_log").await.unwrap();
    let other = person("newcomer", &directory, &service).await;
    people[0].add_members(&stream, &[other.did().clone()]).await.unwrap();
    let signal = async { while !signals.recv().await.unwrap().payload().ends_with(" work") {} };
    tokio::time::timeout(LOOKS, signal).await.expect("the instance signals that work is due");
    eventually("the worker does the new work", async || waiting(&mut own).await == (0, 0)).await;

    worker.stop().await;
    api.stop().await;
    let left: i64 = sqlx::query_scalar("select count(*) from instance").fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0, "an instance that stops deletes its row");
}
