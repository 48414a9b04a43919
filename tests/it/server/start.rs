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
