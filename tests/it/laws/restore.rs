//! A database that went back in time. What was promised is either still there or declared lost: positions go on beyond
//! everything that was handed out, every stream opens a new term, and nothing is handed out twice.

use std::sync::Arc;
use std::time::Duration;

use rookery::lexicon::Method;
use rookery::lexicon::event::defs::Entry;
use rookery::lexicon::event::list_events::{ListEvents, Output, Params};
use rookery::lexicon::mls::get_key_package_status::{self, GetKeyPackageStatus};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery::log::body::{Body, HomeRestoredBody};
use rookery::storage::Storage;
use rookery::storage::embedded::DATABASE;
use rookery::types::Clock;
use rookery_client::Service;
use rookery_client::{EventCursor, Feed, Received};
use rookery_testkit::{Directory, Person};
use sqlx::Connection;
use tokio::time::Instant;

use super::order::assert_unbroken;
use crate::support::{Process, TestDatabase, TestServer, Volume, grow, open_folder, person};

/// Tokens from before a restore are refused for a second or so: clients repeat with a fresh one.
const PATIENCE: Duration = Duration::from_secs(10);
/// The watermark is written at least so often, and a server that cannot go on ends within this time.
const NOTICED: Duration = Duration::from_secs(15);
/// Transactions of the old cluster beyond those of a new one.
const AHEAD: i32 = 20_000;

async fn newcomer(server: &TestServer, name: &str) -> Arc<Person> {
    let service = Service::new(&server.url(), TestServer::did()).unwrap().with_patience(PATIENCE);
    let person = Person::new(name, server.account(), Arc::new(service)).unwrap();
    person.register().await.unwrap();
    person.publish(6, true).await.unwrap();
    Arc::new(person)
}

async fn page(person: &Person, cursor: u64) -> Output {
    let mut params = Params { cursor: Some(cursor.to_string()), limit: 100 };
    let mut all = person.query::<ListEvents>(&params).await.unwrap();
    while all.more {
        params.cursor = Some(all.cursor.clone());
        let next = person.query::<ListEvents>(&params).await.unwrap();
        all.events.extend(next.events);
        (all.cursor, all.more) = (next.cursor, next.more);
    }
    all
}

async fn newest(person: &Person) -> u64 {
    page(person, 0).await.cursor.parse().unwrap()
}

async fn scalar<T>(server: &TestServer, query: &'static str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    sqlx::query_scalar(query).fetch_one(&mut server.database.connect().await).await.unwrap()
}

/// The one entry that opened a term, decoded, with its place.
fn restored(entries: &[Entry]) -> (u64, HomeRestoredBody) {
    let mut found = entries.iter().filter(|entry| entry.kind == "#homeRestored");
    let entry = found.next().expect("a new term was opened");
    assert!(found.next().is_none(), "and once only");
    (entry.seq, HomeRestoredBody::decode(entry.body.as_ref().unwrap().as_slice()).unwrap())
}

/// Positions rise with seq in every stream, and in all streams together nothing was handed out twice.
async fn assert_ordered(server: &TestServer) {
    let disorder: i64 = scalar(
        server,
        "select count(*) from (select pos, lag(pos) over (partition by stream_id order by seq) as before from entry) x
         where pos <= before",
    )
    .await;
    assert_eq!(disorder, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_that_is_loaded_into_a_new_cluster_goes_on_beyond_everything_that_was_handed_out() {
    let mut old = Volume::start().await;
    let mut server = TestServer::start_at_url(&old.url(DATABASE), &[]).await;
    let burn = "do $$ begin for i in 1..20000 loop perform pg_current_xact_id(); commit; end loop; end $$";
    sqlx::raw_sql(burn).execute(&mut server.database.connect().await).await.unwrap();
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol"] {
        people.push(newcomer(&server, name).await);
    }
    let (alice, bob) = (Arc::clone(&people[0]), Arc::clone(&people[1]));
    let stream = alice.create_convo().await.unwrap();
    grow(&people[..2], &stream).await;
    let other = alice.create_convo().await.unwrap();
    let first = bob.draft_message(&stream, b"before").await.unwrap();
    let told = bob.procedure::<SendMessage>(&first).await.unwrap();
    server.settled().await;
    let kept = newest(&bob).await;
    let backup = old.dump(DATABASE);

    // What follows is lost.
    let mut feed = Feed::new(&bob, Some(EventCursor::oldest()));
    let mut lost = told.clone();
    for _ in 0..3 {
        let draft = alice.draft_message(&stream, b"lost").await.unwrap();
        lost = alice.procedure::<SendMessage>(&draft).await.unwrap();
    }
    server.settled().await;
    let beyond = newest(&bob).await;
    assert!(beyond > kept);
    while feed.chains().head(&stream).is_none_or(|head| head.seq < lost.seq) {
        feed.next().await.unwrap();
    }
    let stale = bob.token(ListEvents::NSID);
    server.pause().await;
    old.stop().await;

    let mut new = Volume::start().await;
    new.load(DATABASE, &backup);
    server.resume(&new.url(DATABASE), &[], &people).await;
    let replica = server.replica().await;
    let ids: i64 = scalar(&server, "select pg_current_xact_id()::text::bigint").await;
    assert!(ids < i64::from(AHEAD), "the new cluster's transaction ids are far lower: {ids}");

    let here = Service::new(&server.url(), TestServer::did()).unwrap().with_patience(Duration::ZERO);
    let anywhere = Params { cursor: None, limit: 1 };
    let error = here.query::<ListEvents>(&anywhere, || Some(stale.clone())).await.unwrap_err();
    assert!(error.is("JwtTooOld"), "tokens from before it are not taken: {error}");

    // Cursors: those from before go on, those of the lost future too and are told, those of nowhere are refused.
    assert_eq!(page(&bob, kept).await.outdated, None);
    assert_eq!(page(&bob, beyond).await.outdated, Some(true));
    let nowhere = Params { cursor: Some(rookery::types::Cursor(1 << 52).to_string()), limit: 1 };
    assert!(bob.query::<ListEvents>(&nowhere).await.unwrap_err().is("FutureCursor"));

    // The writer's path, on both replicas, and the path of methods with tables of their own.
    let elsewhere = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
    let draft = alice.draft_message(&stream, b"after").await.unwrap();
    let (one, two) = tokio::join!(bob.send(&stream, b"after"), async {
        elsewhere.procedure::<SendMessage>(&draft, || Some(alice.token(SendMessage::NSID))).await
    });
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(two.term > told.term);
    let claimed = alice.claim(&other, &[people[2].did().clone()]).await.unwrap();
    assert!(claimed[0].last_resort, "one-time packages may have been handed out before");
    alice.change(&other, &claimed, &[]).await.unwrap();
    assert_eq!(bob.procedure::<SendMessage>(&first).await.unwrap(), told, "what is still there is still the answer");

    server.settled().await;
    for (stream, base) in [(&stream, told.seq), (&other, 3)] {
        let entries = alice.entries(stream, 0).await.unwrap();
        assert_unbroken(&entries);
        let (seq, body) = restored(&entries);
        assert_eq!((seq, body.base.0), (base + 1, base));
        assert_eq!(body.base_hash, entries[usize::try_from(base).unwrap() - 1].hash);
        // Its own first term: the two may have been founded in different seconds.
        let founding = entries[0].term;
        assert!(entries.iter().all(|entry| (entry.term > founding) == (entry.seq > base)), "one term after the other");
    }
    assert_eq!([one.seq, two.seq].iter().min(), Some(&(told.seq + 2)));
    let (_, body) = restored(&alice.entries(&stream, 0).await.unwrap());
    assert!(lost.seq > body.base.0 && lost.term < two.term, "whoever was told of it knows that it is gone");
    assert_ordered(&server).await;
    let after = page(&bob, beyond).await;
    assert!(after.events.iter().all(|event| event.cursor.parse::<u64>().unwrap() > beyond));
    assert!(after.events.iter().any(|event| event.kind == "#keyPackagesLow"), "devices are told to publish");

    // The subscriber resumes with its cursor of the lost future, and everything it is given links.
    let mut outdated = false;
    while feed.chains().head(&stream).is_none_or(|head| head.term < two.term || head.seq < two.seq) {
        match feed.next().await.unwrap() {
            Received::Info(info) => outdated |= info.name == "OutdatedCursor",
            Received::Event(event) => assert!(event.cursor.parse::<u64>().unwrap() > beyond),
            _ => {}
        }
    }
    assert!(outdated);
    replica.stop().await.unwrap();
    server.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_rolled_back_is_noticed_by_the_watermark_or_by_the_operators_word() {
    let folder = open_folder();
    let mark = folder.path().join("watermark");
    let guarded = [("ROLLBACK_GUARD", mark.to_str().unwrap())];
    let mut volume = Volume::start().await;
    let mut server = TestServer::start_at_url(&volume.url(DATABASE), &guarded).await;
    let people = vec![newcomer(&server, "alice").await];
    let alice = Arc::clone(&people[0]);
    let stream = alice.create_convo().await.unwrap();
    let told = alice.send(&stream, b"kept").await.unwrap();
    server.pause().await;
    let snapshot = volume.snapshot().await;

    server.resume(&volume.url(DATABASE), &guarded, &people).await;
    let incarnation = "select incarnation from log_origin";
    let first: i64 = scalar(&server, incarnation).await;
    let lost = alice.send(&stream, b"lost").await.unwrap();
    server.settled().await;
    let beyond = newest(&alice).await;
    assert_eq!(restored_count(&alice, &stream).await, 0, "a restart is no restore");
    until_marked(&mark, beyond).await;
    server.pause().await;

    volume.roll_back_to(&snapshot).await;
    server.resume(&volume.url(DATABASE), &guarded, &people).await;
    assert!(scalar::<i64>(&server, incarnation).await > first, "the watermark has seen more");
    let sent = alice.send(&stream, b"again").await.unwrap();
    assert_eq!(sent.seq, told.seq + 2);
    let entries = alice.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    assert_eq!(restored(&entries).0, lost.seq, "at the number of what is lost, in another term");
    assert_eq!(page(&alice, beyond).await.outdated, Some(true));
    assert_ordered(&server).await;
    let second: i64 = scalar(&server, incarnation).await;
    server.pause().await;

    // The watermark alone can tell: without it nothing is noticed, until the operator says so.
    volume.roll_back_to(&snapshot).await;
    server.resume(&volume.url(DATABASE), &[], &people).await;
    assert_eq!(scalar::<i64>(&server, incarnation).await, first);
    server.pause().await;
    recover(&volume.url(DATABASE), &folder, &guarded).await;
    server.resume(&volume.url(DATABASE), &guarded, &people).await;
    assert!(scalar::<i64>(&server, incarnation).await > second, "above everything that any of them was");
    alice.send(&stream, b"again").await.unwrap();
    assert_eq!(restored_count(&alice, &stream).await, 1);
    server.stop().await;
    volume.stop().await;
}

async fn restored_count(person: &Person, stream: &str) -> usize {
    person.entries(stream, 0).await.unwrap().iter().filter(|entry| entry.kind == "#homeRestored").count()
}

async fn until_marked(mark: &std::path::Path, position: u64) {
    let until = Instant::now() + NOTICED;
    loop {
        let held: serde_json::Value = serde_json::from_slice(&std::fs::read(mark).unwrap()).unwrap();
        if held["pos"].as_u64().unwrap() >= position {
            return;
        }
        assert!(Instant::now() < until, "the watermark stands at {held}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Runs `rookery recover`.
async fn recover(url: &str, folder: &tempfile::TempDir, settings: &[(&str, &str)]) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.arg("recover").env_remove("ROOKERY_SEED").env_remove("ROOKERY_SOAK_ROUNDS");
    command.env("ROOKERY_ENV", "development").env("DATABASE_URL", url).env("DATA_DIR", folder.path());
    command.env("RUST_LOG", "error").envs(settings.iter().copied());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("counts as restored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_runs_while_the_operator_recovers_ends_and_begins_anew() {
    let folder = open_folder();
    let mut volume = Volume::start().await;
    let directory = Directory::start().await.unwrap();
    let url = volume.url(DATABASE);
    let mut process = Process::new(folder.path(), &directory.url(), Some(&url));
    process.spawn();
    process.ready().await;
    let service = Arc::new(process.service(process.did()));
    let alice = person("alice", &directory, &service).await;
    let stream = alice.create_convo().await.unwrap();
    let told = alice.send(&stream, b"before").await.unwrap();

    recover(&url, &folder, &[]).await;
    let sending = tokio::spawn({
        let (alice, stream) = (Arc::clone(&alice), stream.clone());
        async move { alice.send(&stream, b"meanwhile").await.unwrap() }
    });
    assert!(!process.ends().await, "its end is a failure, so that whoever supervises it starts it again");
    process.spawn();
    process.ready().await;
    assert_eq!(sending.await.unwrap().seq, told.seq + 2, "repeated until it was taken, in the new term");
    let entries = alice.entries(&stream, 0).await.unwrap();
    assert_unbroken(&entries);
    assert_eq!(restored(&entries).0, told.seq + 1);
    process.stop().await;
    volume.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_under_a_running_server_ends_it_before_it_writes() {
    let mut volume = Volume::start().await;
    let mut server = TestServer::start_at_url(&volume.url(DATABASE), &[]).await;
    let people = vec![newcomer(&server, "alice").await];
    let alice = Arc::clone(&people[0]);
    let stream = alice.create_convo().await.unwrap();
    let told = alice.send(&stream, b"before").await.unwrap();

    volume.restart_on_a_new_timeline().await;
    let mut connection = sqlx::PgConnection::connect(&volume.url(DATABASE)).await.unwrap();
    while sqlx::query_scalar::<_, bool>("select pg_is_in_recovery()").fetch_one(&mut connection).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let draft = alice.draft_message(&stream, b"meanwhile").await.unwrap();
    let sending = tokio::spawn({
        let (alice, draft) = (Arc::clone(&alice), draft.clone());
        async move { alice.procedure::<SendMessage>(&draft).await }
    });
    let why =
        tokio::time::timeout(NOTICED, server.server().failed()).await.expect("the server says that it cannot go on");
    assert!(why.to_string().contains("failed over"), "{why}");
    sending.await.unwrap().unwrap_err();
    server.pause().await;

    server.resume(&volume.url(DATABASE), &[], &people).await;
    let sent = alice.procedure::<SendMessage>(&draft).await.unwrap();
    assert_eq!(sent.seq, told.seq + 2, "nothing was written in between");
    assert_eq!(restored(&alice.entries(&stream, 0).await.unwrap()).0, told.seq + 1);
    server.stop().await;
    volume.stop().await;
}

/// The number of rows, in all tables, that the latest raise of the origin wrote.
async fn written_by_restore(database: &TestDatabase) -> i64 {
    let mut connection = database.connect().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select c.oid::regclass::text from pg_class c
         where c.relkind = 'r' and c.relnamespace = current_schema()::regnamespace order by 1",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let mut rows = 0;
    for table in tables {
        let count = format!("select count(*) from {table} where xmin = (select xmin from log_origin)");
        rows += sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap();
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_writes_a_constant_number_of_rows() {
    let mut written = Vec::new();
    for stored in [10_i64, 500_000] {
        let server = TestServer::start_alone().await;
        let alice = newcomer(&server, "alice").await;
        let database = server.stop_and_keep().await;
        let more =
            "insert into key_package (account_id, device_id, cipher_suite, ref, init_key_hash, bytes, last_resort,
                                             expires_at, created_at, incarnation)
             select d.account_id, d.id, 1, convert_to('r' || n, 'UTF8'), convert_to('i' || n, 'UTF8'), '', false,
                    now() + interval '30 days', now(), o.incarnation
             from device d, log_origin o, generate_series(1, $1) n";
        sqlx::query(more).bind(stored).execute(&mut database.connect().await).await.unwrap();
        let storage = Storage::connect(&database.url, 2).await.unwrap();
        let began = Instant::now();
        rookery::log::recover(&storage, &Clock::System, None).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{stored} key packages took {:?}", began.elapsed());
        written.push(written_by_restore(&database).await);
        storage.close();

        // The server hands out none of them, long before they are deleted.
        let server = TestServer::start_at_url(&database.url, &[]).await;
        alice.service().move_to(&server.url());
        let status = get_key_package_status::Params {};
        let status = alice.query::<GetKeyPackageStatus>(&status).await.unwrap();
        assert!(status.pools.iter().all(|pool| pool.available == 0 && pool.last_resort), "{status:?}");
        server.stop().await;
    }
    assert_eq!(written[0], written[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_restored_into_its_own_cluster_is_noticed() {
    let volume = Volume::start().await;
    let url = volume.url(DATABASE);
    let mut server = TestServer::start_at_url(&url, &[]).await;
    let people = vec![newcomer(&server, "alice").await];
    let alice = Arc::clone(&people[0]);
    let stream = alice.create_convo().await.unwrap();
    let kept = alice.send(&stream, b"kept").await.unwrap();
    let incarnation: i64 = scalar(&server, "select incarnation from log_origin").await;
    let dump = volume.dump(DATABASE);
    alice.send(&stream, b"lost").await.unwrap();
    server.pause().await;
    volume.recreate(DATABASE);
    volume.load(DATABASE, &dump);

    server.resume(&url, &[], &people).await;
    assert!(scalar::<i64>(&server, "select incarnation from log_origin").await > incarnation);
    let sent = alice.send(&stream, b"again").await.unwrap();
    assert_eq!(sent.seq, kept.seq + 2, "after the entry that opens the new term");
    server.pause().await;
    server.resume(&url, &[], &people).await;
    assert_eq!(restored_count(&alice, &stream).await, 1, "a restart is no restore");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_no_open_writer() {
    let server = TestServer::start_secluded(&[]).await;
    let mut writer = server.database.connect().await;
    let mut open = writer.begin().await.unwrap();
    sqlx::query("select pg_current_xact_id(), base from log_origin").execute(&mut *open).await.unwrap();
    let began = Instant::now();
    let second = tokio::time::timeout(Duration::from_secs(6), server.replica()).await.expect("nothing is waited for");
    assert!(began.elapsed() < Duration::from_secs(6));
    open.rollback().await.unwrap();
    second.stop().await.unwrap();
    server.stop().await;
}
