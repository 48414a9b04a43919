//! A full disk: the server writes nothing, and reads everything.

use std::time::Duration;

use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use sqlx::Executor;
use tokio::time::Instant;

use crate::support::{TestDatabase, TestServer, conversation, refused};

/// Time within which the server notices that the disk has room again.
const NOTICED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_writes_go_on_once_it_has_room() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    let sent = people[0].send(&stream, b"before").await.unwrap();
    let mut connection = server.database.connect().await;
    // The errors of Postgres on a full disk.
    let full = "create function no_room() returns trigger language plpgsql as $$ begin
            raise exception 'could not extend file' using errcode = '53100'; end $$;
        create trigger no_room before insert on entry execute function no_room();
        create trigger no_room before insert on disk_probe execute function no_room()";
    sqlx::raw_sql(full).execute(&mut connection).await.unwrap();

    let draft = people[0].draft_message(&stream, b"after").await.unwrap();
    assert!(people[0].send(&stream, b"meanwhile").await.is_err());
    refused(people[0].procedure::<rookery::lexicon::mls::send_message::SendMessage>(&draft).await, 503, "StorageFull");
    let (status, report) = server.ready().await;
    assert_eq!((status, &report["disk"]), (200, &"full".into()), "reading goes on, on every instance alike");
    assert_eq!(people[1].entries(&stream, 0).await.unwrap().last().unwrap().seq, sent.seq);

    let room = "drop trigger no_room on entry; drop trigger no_room on disk_probe";
    sqlx::raw_sql(room).execute(&mut connection).await.unwrap();
    let since = Instant::now();
    while server.ready().await.1["disk"] != "ok" {
        assert!(since.elapsed() < NOTICED, "the server did not notice the free space");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = people[0].procedure::<rookery::lexicon::mls::send_message::SendMessage>(&draft).await.unwrap();
    assert!(told.seq > sent.seq);
    server.stop().await;
}

/// With a private Postgres, on a disk of this machine.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_threshold_writes_are_refused_and_revocations_taken() {
    let folder = crate::support::open_folder();
    let data_dir = folder.path().to_str().unwrap().to_owned();
    let private = [("DATABASE_URL", "(unset)"), ("DATA_DIR", data_dir.as_str())];
    let mut server = TestServer::start_at_url("", &private).await;
    let (stream, people) = conversation(&server, 2).await;
    assert_eq!(server.ready().await.1["disk"], "ok");
    server.pause().await;

    // More bytes than any disk has.
    server.start_again(&[&private[..], &[("DISK_FREE_MIN_MIB", "1000000000")]].concat()).await;
    for person in &people {
        person.service().move_to(&server.url());
    }
    let since = Instant::now();
    while server.ready().await.1["disk"] != "low" {
        assert!(since.elapsed() < NOTICED, "the server did not check the threshold");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server.ready().await.0, 200);
    refused(people[0].send(&stream, b"no").await, 503, "StorageFull");
    people[1].entries(&stream, 0).await.unwrap();
    let device = people[1].device().to_string();
    people[1].procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn out_of_room_is_told_from_other_errors_of_a_statement() {
    let database = TestDatabase::create().await;
    let mut connection = database.connect().await;
    for code in ["53100", "53200", "58030"] {
        let raise = format!("do $$ begin raise exception 'no' using errcode = '{code}'; end $$");
        let error = connection.execute(sqlx::AssertSqlSafe(raise)).await.unwrap_err();
        assert!(matches!(rookery::storage::Error::from(error), rookery::storage::Error::Full(_)), "{code}");
    }
}
