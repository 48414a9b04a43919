use rookery_testkit::Directory;
use serde_json::{Value, json};

use crate::support::{Process, Stalling, TestDatabase, TestServer, open_folder};

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

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_server_is_not_ready_and_still_serves() {
    let server = TestServer::start_with(&[("DRAIN_MS", "1000")]).await;
    let alice = server.newcomer("alice", 0).await;
    let begun = std::time::Instant::now();
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let (status, report) = get(&server, "/health/ready").await;
        assert_eq!((status, &report["reason"], &report["accepting"]), (503, &"Stopping".into(), &false.into()));
        assert_eq!(get(&server, "/health/live").await.0, 200);
        // On a new connection too: the client keeps none.
        assert_eq!(alice.devices().await.unwrap().len(), 1);
        assert!(begun.elapsed() < std::time::Duration::from_millis(900), "within the drain time");
    };
    tokio::join!(server.server().drain(), meanwhile);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(1));
    server.stop().await;
}

/// As Kubernetes ends a pod: requests arrive until every proxy has seen that the pod is not ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_process_serves_until_its_drain_is_over() {
    let database = TestDatabase::create().await;
    let directory = Directory::start().await.unwrap();
    let folder = open_folder();
    let mut process = Process::new(folder.path(), &directory.url(), Some(&database.url)).with("DRAIN_MS", "3000");
    process.spawn();
    process.ready().await;
    let (url, client) = (process.url(), rookery::identity::http::plain().unwrap());
    let begun = std::time::Instant::now();
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        for (path, expected) in [("/health/ready", 503), ("/health/live", 200), ("/.well-known/did.json", 200)] {
            // On a new connection each: the client keeps none.
            let answer = client.get(format!("{url}{path}")).send().await.unwrap();
            assert_eq!(answer.status().as_u16(), expected, "{path}");
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(3), "within the drain time");
    };
    tokio::join!(process.stop(), meanwhile);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_measured_once_however_often_they_are_read() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    let database = TestDatabase::create().await;
    let wire = Stalling::before(&database).await;
    let settings = [("METRICS_PORT", port.as_str()), ("HEADER_TIMEOUT_MS", "500")];
    let server = TestServer::start_at_url(&wire.url, &settings).await;
    let address = server.server().metrics_address().unwrap();
    assert!(address.ip().is_loopback(), "{address} is not loopback by default");
    let client = rookery::identity::http::plain().unwrap();
    let scrape = async || {
        let answer = client.get(format!("http://{address}/metrics")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap()
    };
    assert!(scrape().await.contains("rookery_pool_connections"));
    // A hanging database is not asked again, so no probe waits.
    wire.stand_still();
    let second = std::time::Duration::from_secs(1);
    let begun = std::time::Instant::now();
    let scrapes = futures_util::future::join_all((0..10).map(|_| scrape())).await;
    assert!(scrapes.iter().all(|page| page.contains("rookery_connections_open")));
    assert!(begun.elapsed() < second, "{:?}", begun.elapsed());
    // The next measurement is due: one reader waits for it, up to its time limit.
    tokio::time::sleep(5 * second).await;
    let begun = std::time::Instant::now();
    futures_util::future::join_all((0..10).map(|_| scrape())).await;
    assert!((second..5 * second).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    wire.flow();
    // The listener of `/metrics` has the limits of the other listener.
    let mut slow = tokio::net::TcpStream::connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut slow, b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut slow, &mut answer);
    assert!(
        tokio::time::timeout(std::time::Duration::from_secs(5), read).await.is_ok(),
        "the server keeps waiting for an endless head"
    );
    server.stop().await;
}
