//! What a server does not start without.

use crate::support::{TestDatabase, TestServer};

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
