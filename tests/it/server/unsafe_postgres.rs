//! A Postgres that may lose what it acknowledged.

use crate::support::{TestDatabase, TestServer};

#[tokio::test]
async fn production_does_not_start_on_a_postgres_that_does_not_flush() {
    // The tests' own clusters are quick and forgetful.
    let database = TestDatabase::own().await;
    let why = TestServer::refused(&database, &[("ROOKERY_ENV", "production")]).await;
    assert!(why.contains("fsync = off") && why.contains("Set fsync = on"), "{why}");
}
