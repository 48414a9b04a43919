//! Several servers on one database are one server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::lexicon::account::revoke_device::{self, RevokeDevice};
use rookery_client::Service;
use rookery_client::{Feed, FeedError, Received};
use rookery_testkit::Person;

use crate::support::{AccountToken, Instances, TestServer, at_once, conversation};

/// A revoked device hears nothing after a second, and a busy machine takes its time.
const CLOSED: Duration = Duration::from_secs(3);
/// Tokens that reach all instances at once.
const TOKENS: usize = 20;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_once_by_three_instances() {
    let servers = Arc::new(Instances::start(3).await);
    let urls: Vec<String> = servers.urls().iter().map(|url| format!("{url}/xrpc/{}", ListDevices::NSID)).collect();
    let person = servers.first.person("alice").await;
    let of_device: &dyn Fn() -> String = &|| person.token(ListDevices::NSID);
    let of_account: &dyn Fn() -> String = &|| person.service_token(ListDevices::NSID);
    let (taken, replayed) = ((200, String::new()), (401, "ReplayedToken".to_owned()));
    for token in [of_device, of_account] {
        for first in &urls {
            let token = token();
            assert_eq!(servers.first.http_get(first, &token).await, taken);
            for url in &urls {
                assert_eq!(servers.first.http_get(url, &token).await, replayed);
            }
        }
        // Also when no instance is first.
        for _ in 0..TOKENS {
            let token = token();
            let calls = urls.iter().map(|url| {
                let (servers, url, token) = (Arc::clone(&servers), url.clone(), token.clone());
                async move { servers.first.http_get(&url, &token).await }
            });
            let mut answers = at_once(calls).await;
            answers.sort();
            assert_eq!(answers, [taken.clone(), replayed.clone(), replayed.clone()]);
        }
    }
    Arc::into_inner(servers).unwrap().stop().await;
}
