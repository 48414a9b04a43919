//! Several servers on one database are one server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery_client::Service;
use rookery_client::{Feed, FeedError, Received};
use rookery_testkit::Person;

use crate::support::{TestServer, conversation};

/// A revoked device hears nothing after a second, and a busy machine takes its time.
const CLOSED: Duration = Duration::from_secs(3);
/// Well below the slow poll of half a second: what arrives in this time was signalled.
const SIGNALLED: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_of_one_replica_hears_at_once_what_another_replica_takes() {
    let server = TestServer::start_alone().await;
    let replica = server.replica().await;
    let elsewhere = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
    let (stream, people) = conversation(&server, 2).await;
    let alice = &people[0];
    let listener = Person::new("listener", Arc::clone(alice.account()), Arc::new(elsewhere)).unwrap();
    listener.register().await.unwrap();
    let mut feed = Feed::new(&listener, None);
    feed.connect().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let mut delays = Vec::new();
    for number in 0..5 {
        let sent = people[1].send(&stream, format!("message {number}").as_bytes()).await.unwrap();
        let told = Instant::now();
        let heard = loop {
            match feed.next().await.unwrap() {
                Received::Event(event) if event.kind == "#message" => break event,
                _ => {}
            }
        };
        assert_eq!((heard.stream.as_str(), heard.seq), (stream.as_str(), sent.seq));
        delays.push(told.elapsed());
    }
    delays.sort();
    assert!(delays[2] < SIGNALLED, "the median of {delays:?} is that of the poll");
    replica.stop().await.unwrap();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_revoked_on_one_replica_loses_its_socket_on_another() {
    let server = TestServer::start_alone().await;
    let replica = server.replica().await;
    let elsewhere = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
    let alice = server.person("alice").await;
    let lost = Person::new("lost", Arc::clone(alice.account()), Arc::new(elsewhere)).unwrap();
    lost.register().await.unwrap();
    let lost = Arc::new(lost);
    let mut feed = Feed::new(&lost, None);
    feed.connect().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;

    let input = revoke_device::Input { device: lost.device().to_string(), revocation: None };
    alice.procedure::<RevokeDevice>(&input).await.unwrap();
    let revoked = Instant::now();
    let ended = loop {
        match feed.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, FeedError::Refused { .. }), "{ended}");
    assert!(revoked.elapsed() < CLOSED, "{:?}", revoked.elapsed());
    replica.stop().await.unwrap();
    server.stop().await;
}
