use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery::lexicon::event::get_ticket::{self, GetTicket};
use rookery::lexicon::event::stream_events::StreamEvents;

use rookery_testkit::{Directory, Person};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Events, Process, Socket, Stalling, TestDatabase, TestServer, Written, conversation, eventually, open_folder,
    person, refused,
};

/// On one thread, so that all that the server does is heard here.
#[tokio::test]
async fn the_log_has_a_line_for_each_request_and_names_nobody() {
    let written = Written::default();
    let _listening = written.listen();

    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 2).await;
    people[0].send(&stream, b"hello").await.unwrap();
    let stranger = server.person("stranger").await;
    refused(stranger.convo(&stream).await, 404, "StreamNotFound");
    let mut socket = Socket::open(&server, &people[1], "?cursor=0").await;
    socket.event().await;
    let input = get_ticket::Input { lxm: StreamEvents::NSID.to_owned() };
    let ticket = people[1].procedure::<GetTicket>(&input).await.unwrap().ticket;
    Events::ask(&server, &format!("?cursor=0&ticket={ticket}"), None).await.event().await;
    let device = people[1].device().to_string();
    people[1].procedure::<RevokeDevice>(&revoke_device::Input { device, revocation: None }).await.unwrap();
    refused(people[1].convo(&stream).await, 401, "DeviceRevoked");
    server.stop().await;

    let log = written.text();
    let answered: Vec<&str> = log.lines().filter(|line| line.contains("\"answered\"")).collect();
    for expected in ["mls.sendMessage", "StreamNotFound", "DeviceRevoked", "duration_us", "request.id"] {
        assert!(answered.iter().any(|line| line.contains(expected)), "no line of a request says {expected}");
    }
    for person in people.iter().chain([&stranger]) {
        let name = person.did().as_str().rsplit(':').next().unwrap();
        assert!(!log.contains(name), "an account is named: {}", log.lines().find(|line| line.contains(name)).unwrap());
    }
    assert!(log.contains("event.streamEvents") && !log.contains(&ticket), "no ticket is written");
    assert!(!log.contains("Bearer ") && !log.contains("eyJ"), "no token is written");
}

/// In a process of its own: the metrics of one process are the sum of its servers.
#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_request_leaves_the_gauge_of_open_requests() {
    let database = TestDatabase::create().await;
    let wire = Stalling::before(&database).await;
    let directory = Directory::start().await.unwrap();
    let folder = open_folder();
    let metrics_port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port().to_string();
    let process = Process::new(folder.path(), &directory.url(), Some(&wire.url));
    let mut process = process.with("METRICS_PORT", &metrics_port);
    process.spawn();
    process.ready().await;
    let client = rookery::identity::http::plain().unwrap();
    let open = async || {
        let answer = client.get(format!("http://127.0.0.1:{metrics_port}/metrics")).send().await.unwrap();
        let page = String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap();
        let gauge = page.lines().find_map(|line| line.strip_prefix("rookery_http_requests_open ")).map(str::to_owned);
        gauge.expect("the gauge is shown")
    };
    let alice = person("alice", &directory, &Arc::new(process.service(process.did()))).await;
    assert_eq!(open().await, "0");
    wire.stand_still();
    let request = get_devices(&alice);
    let mut tcp = TcpStream::connect(("127.0.0.1", process.port())).await.unwrap();
    tcp.write_all(request.as_bytes()).await.unwrap();
    eventually("the request is open", async || open().await == "1").await;
    drop(tcp);
    eventually("the request is not open", async || open().await == "0").await;
    wire.flow();
    process.stop().await;
}

/// A request whose answer reads the database.
fn get_devices(person: &Person) -> String {
    let nsid = ListDevices::NSID;
    format!("GET /xrpc/{nsid} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", person.token(nsid))
}

#[tokio::test]
async fn an_abandoned_request_is_logged() {
    let written = Written::default();
    let _listening = written.listen();
    let database = TestDatabase::create().await;
    let wire = Stalling::before(&database).await;
    let server = TestServer::start_at_url(&wire.url, &[]).await;
    let alice = server.newcomer("alice", 0).await;
    wire.stand_still();
    let mut tcp = TcpStream::connect(server.server().address()).await.unwrap();
    tcp.write_all(get_devices(&alice).as_bytes()).await.unwrap();
    // Until the server has begun to answer.
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(tcp);
    let until = Instant::now() + Duration::from_secs(5);
    while !written.text().contains("\"abandoned\"") {
        assert!(Instant::now() < until, "no line");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    wire.flow();
    server.stop().await;
    let log = written.text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"message\":\"abandoned\"")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["account.listDevices", "duration_us", "request.id"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}
