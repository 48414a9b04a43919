use serde_json::{Value, json};

use crate::support::TestServer;

async fn get(server: &TestServer, path: &str) -> (u16, Value) {
    let response = server.at(http::Method::GET, path).send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_healthy_server_says_so_in_every_form() {
    let server = TestServer::start().await;
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(get(&server, "/health/live").await, (200, json!({ "status": "ok" })));
    let report = json!({
        "status": "ok", "version": version, "database": "ok", "migrations": "ok", "log": "ok", "disk": "ok",
        "accepting": true,
    });
    assert_eq!(get(&server, "/health/ready").await, (200, report.clone()));
    assert_eq!(get(&server, "/health").await, (200, report));
    assert_eq!(get(&server, "/xrpc/_health").await, (200, json!({ "version": version })));
    let home = server.at(http::Method::GET, "/").send().await.unwrap();
    assert!(home.text().await.unwrap().contains("did:web:rookery.test"));
    server.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_behind_makes_the_server_unready_and_leaves_it_alive() {
    let server = TestServer::start().await;
    let update = sqlx::query("update _sqlx_migrations set success = false");
    update.execute(&mut server.database.connect().await).await.unwrap();
    let (status, report) = get(&server, "/health/ready").await;
    assert_eq!((status, &report["status"], &report["database"]), (503, &"unavailable".into(), &"ok".into()));
    assert_eq!(get(&server, "/health/live").await.0, 200);
    server.stop().await;
}
