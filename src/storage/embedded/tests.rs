use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::{Connection, PgConnection, Row};
use tempfile::TempDir;

use super::owner::Owner;
use super::{Cluster, DATABASE, EmbeddedError, Options};

fn options(data_dir: &Path) -> Options {
    Options { data_dir: data_dir.to_owned(), pg_bin: None, max_connections: 10, durable: false }
}

async fn ask(cluster: &Cluster, question: &'static str) -> String {
    let mut connection = PgConnection::connect(&cluster.url(DATABASE)).await.unwrap();
    sqlx::query(question).fetch_one(&mut connection).await.unwrap().get(0)
}

async fn tell(cluster: &Cluster, statement: &'static str) {
    let mut connection = PgConnection::connect(&cluster.url(DATABASE)).await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

/// The state after kill -9 of the server: Postgres runs on, and the system has taken the folder's lock back.
fn kill_the_server(cluster: Cluster) -> i32 {
    let Cluster { postmaster, pid, folder } = cluster;
    std::mem::forget(postmaster);
    drop(folder);
    pid.cast_signed()
}

fn exists(pid: i32) -> bool {
    // A zombie (the tests are its parent) has no working folder any more.
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok()
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_stop_and_a_start() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    tell(&cluster, "create table kept as select 7 as n").await;
    let pid = cluster.pid().cast_signed();
    cluster.stop().await.unwrap();
    assert!(!exists(pid));

    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    assert_eq!(ask(&cluster, "select n::text from kept").await, "7");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_data_dir_that_only_its_owner_may_enter_works() {
    let dir = TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    assert_eq!(ask(&cluster, "select 'up'").await, "up");
}

#[tokio::test]
async fn a_durable_cluster_keeps_what_it_acknowledged_and_listens_on_its_socket_alone() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(Options { durable: true, ..options(dir.path()) }).await.unwrap();
    for setting in ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"] {
        let mut connection = PgConnection::connect(&cluster.url(DATABASE)).await.unwrap();
        let value: String =
            sqlx::query("select current_setting($1)").bind(setting).fetch_one(&mut connection).await.unwrap().get(0);
        assert_eq!(value, "on", "{setting}");
    }
    assert_eq!(ask(&cluster, "show listen_addresses").await, "");
    assert_eq!(ask(&cluster, "show max_prepared_transactions").await, "0");
    assert_eq!(ask(&cluster, "show idle_in_transaction_session_timeout").await, "30s");
}

#[tokio::test]
async fn a_postgres_that_outlived_its_server_is_ended_and_its_commits_are_there() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    tell(&cluster, "create table kept as select 7 as n").await;
    // A client that stays connected must not keep the old one alive.
    let mut idle = PgConnection::connect(&cluster.url(DATABASE)).await.unwrap();
    let orphan = kill_the_server(cluster);
    assert!(exists(orphan));

    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    assert!(!exists(orphan));
    assert_ne!(cluster.pid().cast_signed(), orphan);
    assert_eq!(ask(&cluster, "select n::text from kept").await, "7");
    assert!(idle.ping().await.is_err());
}

#[tokio::test]
async fn a_postgres_that_was_killed_together_with_its_server_recovers() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    tell(&cluster, "create table kept as select 7 as n").await;
    let pid = kill_the_server(cluster);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();

    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    assert_eq!(ask(&cluster, "select n::text from kept").await, "7");
}

#[tokio::test]
async fn a_lock_file_that_names_a_stranger_is_not_believed() {
    let dir = TempDir::new().unwrap();
    Cluster::start(options(dir.path())).await.unwrap().stop().await.unwrap();
    // As in a restarted container: the number in the file is a process again, but another one of the same user.
    let data = dir.path().join("postgres");
    let mut sleeping = Owner::of(&data).unwrap().command(Path::new("/bin/sleep")).arg("60").spawn().unwrap();
    let stranger = sleeping.id();
    for name in ["postmaster.pid", ".s.PGSQL.5432.lock"] {
        std::fs::write(data.join(name), format!("{stranger}\n{}\n1700000000\n5432\n", data.display())).unwrap();
    }
    let started = Cluster::start(options(dir.path())).await;
    let unharmed = sleeping.try_wait().unwrap().is_none();
    sleeping.kill().unwrap();
    sleeping.wait().unwrap();
    assert!(unharmed);
    assert_eq!(ask(&started.unwrap(), "select 'up'").await, "up");
}

#[tokio::test]
async fn dropping_it_leaves_no_process_behind() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    let pid = cluster.pid().cast_signed();
    drop(cluster);
    assert!(!exists(pid));
}

#[tokio::test]
async fn one_folder_has_one_server_at_a_time() {
    let dir = TempDir::new().unwrap();
    let first = Cluster::start(options(dir.path())).await.unwrap();
    let second = Cluster::start(options(dir.path())).await;
    assert!(matches!(second, Err(EmbeddedError::InUse { .. })));
    assert_eq!(ask(&first, "select 'up'").await, "up");
}

#[tokio::test]
async fn data_of_another_major_version_is_refused_with_both_versions() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("postgres");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = Cluster::start(options(dir.path())).await.map(drop).unwrap_err();
    assert!(matches!(error, EmbeddedError::WrongMajor { found: 9, .. }), "{error}");
    assert!(error.to_string().contains("made by Postgres 9, but this machine has"), "{error}");
}

#[tokio::test]
async fn a_folder_with_something_else_in_it_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("postgres");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("thesis.txt"), "years of work").unwrap();
    let error = Cluster::start(options(dir.path())).await.map(drop).unwrap_err();
    assert!(matches!(error, EmbeddedError::NotACluster { .. }), "{error}");
    assert!(data.join("thesis.txt").exists());
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_begun_anew() {
    let dir = TempDir::new().unwrap();
    let unfinished = dir.path().join("postgres.new");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let cluster = Cluster::start(options(dir.path())).await.unwrap();
    assert_eq!(ask(&cluster, "select 'up'").await, "up");
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_and_full_of_odd_characters_works() {
    let dir = TempDir::new().unwrap();
    let data_dir = dir.path().join("a folder, with \"quotes\" & 100% +more").join("x".repeat(120));
    let cluster = Cluster::start(options(&data_dir)).await.unwrap();
    assert_eq!(ask(&cluster, "select 'up'").await, "up");
    let socket = cluster.folder.socket.clone();
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(socket).unwrap();

    let data_dir = dir.path().join("a folder, with \"quotes\" & 100% +more");
    let cluster = Cluster::start(options(&data_dir)).await.unwrap();
    assert_eq!(ask(&cluster, "select 'up'").await, "up");
}

#[tokio::test]
async fn root_is_told_which_folder_postgres_cannot_pass_through() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = Cluster::start(options(&closed.join("data"))).await.map(drop).unwrap_err();
    assert!(matches!(error, EmbeddedError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("chmod o+x"), "{error}");
}
