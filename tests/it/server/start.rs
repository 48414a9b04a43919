//! What a server does not start without.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rookery::storage::embedded::{Cluster, DATABASE, Options};

use crate::support::{PostgresProxy, TestDatabase, TestServer, Written, command_with, open_folder};

#[tokio::test]
async fn authorities_that_cannot_be_read_or_are_none_stop_the_start_with_the_fix() {
    let database = TestDatabase::create().await;
    let missing = TestServer::refused(&database, &[("OUTBOUND_CA", "/nowhere/authorities.pem")]).await;
    assert!(missing.contains("cannot read OUTBOUND_CA /nowhere/authorities.pem. Fix: "), "{missing}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let none = TestServer::refused(&database, &[("OUTBOUND_CA", empty.path().to_str().unwrap())]).await;
    assert!(none.contains("OUTBOUND_CA holds no certificate. Fix: "), "{none}");
}

/// During a roll-out, and after one that was taken back.
#[tokio::test]
async fn a_server_starts_on_the_schema_of_the_version_after_its_own() {
    let database = TestDatabase::create().await;
    let later = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (999912312359, 'later', true, '', 0)";
    sqlx::query(later).execute(&mut database.connect().await).await.unwrap();
    let server = TestServer::start_at_url(&database.url, &[]).await;
    assert_eq!(server.ready().await.0, 200);
    server.stop().await;
}

/// A Postgres that a production server starts on.
async fn durable(folder: &tempfile::TempDir) -> Cluster {
    let options = Options { data_dir: folder.path().to_owned(), pg_bin: None, max_connections: 40, durable: true };
    Cluster::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_serves_under_one_name() {
    let folder = open_folder();
    let cluster = durable(&folder).await;
    let url = cluster.url(DATABASE);
    TestServer::start_at_url(&url, &[]).await.stop().await;

    let other = [("SERVICE_DID", "did:web:other.test"), ("PUBLIC_URL", "https://other.test")];
    let production = [&other[..], &[("ROOKERY_ENV", "production")]].concat();
    let why = TestServer::refused(&TestDatabase::at(&url), &production).await;
    assert!(why.contains("belongs to did:web:rookery.test, but SERVICE_DID is did:web:other.test"), "{why}");
    assert!(why.contains("Fix: "), "{why}");
    // In development the server's name follows from the port: the conversations stay with their first name.
    let server = TestServer::start_at_url(&url, &other).await;
    assert_eq!(server.server().services().log.home(), server.name());
    let alice = server.person("alice").await;
    let stream = alice.create_convo().await.unwrap();
    alice.send(&stream, b"here").await.unwrap();
    server.stop().await;
    cluster.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_drops_options_is_refused_by_name() {
    let database = TestDatabase::create().await;
    let proxy = PostgresProxy::that_drops_options(&database.url).await;
    let why = TestServer::refused(&TestDatabase::at(&proxy.url), &[]).await;
    assert!(why.contains("statement_timeout is 0, and this server needs 10s"), "{why}");
    assert!(why.contains("pooler") && why.contains("Fix: "), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_reached_is_named_once() {
    let url = "postgres://rookery@127.0.0.1:1/gone?sslmode=disable";
    let why = TestServer::refused(&TestDatabase::at(url), &[]).await;
    assert!(why.contains("127.0.0.1:1") && why.contains("gone"), "{why}");
    assert_eq!(why.matches("refused").count(), 1, "the cause appears more than once: {why}");
    assert!(why.find("refused") < why.find("Fix: "), "and before what mends it: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_lost_key_of_two_is_named_with_what_to_do() {
    let folder = open_folder();
    let keys = folder.path().join("keys");
    let settings = [("KEYS_DIR", keys.to_str().unwrap())];
    let keygen = async || command_with(folder.path(), None, &settings, &["keygen"]).await;
    let (said, well) = keygen().await;
    assert!(well, "{said}");
    let (said, well) = keygen().await;
    assert!(!well && said.contains("holds keys already") && said.contains("Fix: "), "{said}");
    std::fs::remove_file(keys.join("peer.key")).unwrap();
    let (said, well) = keygen().await;
    assert!(!well && said.contains("peer.key is missing") && said.contains("Fix: put it back"), "{said}");
    let why = TestServer::refused(&TestDatabase::create().await, &settings).await;
    assert!(why.contains("peer.key is missing"), "{why}");
}

/// The operator can put the old keys back only until other servers see the new keys.
#[tokio::test]
async fn keys_that_replace_others_are_named_at_the_start() {
    let mut server = TestServer::start().await;
    server.pause().await;
    let written = Written::default();
    let listening = written.listen();
    server.start_again(&[]).await;
    server.pause().await;
    assert!(!written.text().contains("signed with another key"), "{}", written.text());
    server.forget_keys();
    server.start_again(&[]).await;
    drop(listening);
    let log = written.text();
    let warned: Vec<&str> = log.lines().filter(|line| line.contains("signed with another key until now")).collect();
    for (line, purpose) in warned.iter().zip(["peer", "checkpoint"]) {
        for part in ["WARN", purpose, "other servers hold this one for 72 h", "put it back now"] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    assert_eq!(warned.len(), 2, "{log}");
    server.stop().await;
}

/// A shell limits a process to few open files, and each connection is one.
#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised_to_the_hard_one() {
    let (database, folder) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", "ulimit -Sn 256 && exec \"$0\" serve", env!("CARGO_BIN_EXE_rookery")]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("ROOKERY_ENV", "development");
    command.env("DATABASE_URL", &database.url).env("DATA_DIR", folder.path());
    command
        .env("SERVER_PORT", "0")
        .env("METRICS_PORT", "0")
        .env("RUST_LOG", "error")
        .env("PUBLIC_URL", "http://localhost:1");
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id().unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(&limits).expect("the server runs");
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        let (soft, hard) = (numbers.next().unwrap(), numbers.next().unwrap());
        if soft == hard {
            assert!(hard > 256, "the machine of the tests allows no more than {hard}");
            return;
        }
        assert!(Instant::now() < until, "the soft limit is still {soft} of {hard}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
