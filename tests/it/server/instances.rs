//! Several instances of one server: they share its limits, and any of them takes any call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::identity::http::{PlainClient, plain};
use rookery::lexicon::Method;
use rookery::lexicon::account::list_devices::ListDevices;
use rookery::types::Clock;
use rookery_client::{EventCursor, Feed, Received, Service};
use rookery_testkit::Identity;

use crate::support::{Fleet, Load, RoundRobin, TestServer, grow, person};

/// Instances know of each other within this time, on a busy machine.
const KNOWN: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// As an account's PDS asks one instance for the account's devices: the status, and what is left of the budget.
async fn devices(client: &PlainClient, url: &str, account: &Identity) -> (u16, i64) {
    let token = account.service_token(TestServer::did().as_str(), ListDevices::NSID, Clock::System.now());
    let answer = client.get(format!("{url}/xrpc/{}", ListDevices::NSID)).bearer_auth(token).send().await.unwrap();
    let left = answer.headers()["ratelimit-remaining"].to_str().unwrap().parse().unwrap();
    (answer.status().as_u16(), left)
}

/// Waits until a call costs that much on every instance.
async fn cost(client: &PlainClient, server: &TestServer, urls: &[String], cost: i64) {
    let until = Instant::now() + KNOWN;
    for url in urls {
        while devices(client, url, &server.account()).await.1 != 60 - cost {
            assert!(Instant::now() < until, "an instance does not know the others");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_grant_one_budget() {
    let settings = [("RATE_ACCOUNT", "60/86400")];
    let server = TestServer::start_with(&settings).await;
    let mut replicas = Vec::new();
    for _ in 0..2 {
        replicas.push(Box::pin(server.replica_with(&settings)).await);
    }
    let client = plain().unwrap();
    let replica_urls = replicas.iter().map(|replica| format!("http://{}", replica.address()));
    let urls: Vec<String> = [server.url()].into_iter().chain(replica_urls).collect();
    cost(&client, &server, &urls, 3).await;

    // By turns, and all at one instance first: never more than the budget in all.
    for stuck in [0, 100] {
        let account = server.account();
        let mut granted = 0;
        for call in 0..200 {
            let url = if call < stuck { &urls[0] } else { &urls[call % urls.len()] };
            granted += usize::from(devices(&client, url, &account).await.0 == 200);
        }
        assert_eq!(granted, 60, "{stuck} calls at one instance");
    }

    // An instance that ends leaves its part to the others.
    replicas.pop().unwrap().stop().await.unwrap();
    cost(&client, &server, &urls[..2], 2).await;
    replicas.pop().unwrap().stop().await.unwrap();
    cost(&client, &server, &urls[..1], 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_behind_a_plain_proxy_lose_no_event() {
    let mut fleet = Fleet::start(3).await;
    let proxy = RoundRobin::start((0..3).map(|replica| fleet.address(replica)).collect()).await;
    let service = Arc::new(Service::new(&proxy.url(), Fleet::did()).unwrap().with_patience(PATIENCE));
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(person(&format!("person {number}"), fleet.directory(), &service).await);
    }
    let stream = people[0].create_convo().await.unwrap();
    grow(&people, &stream).await;
    let mut feeds = Vec::new();
    for person in &people {
        let mut feed = Feed::new(person, Some(EventCursor::oldest()));
        feed.connect().await.unwrap();
        feeds.push(feed);
    }

    let load = Load::new(people.len());
    let sending = load.begin(&people, &stream, Duration::from_millis(20));
    load.goes_on().await;
    fleet.kill_redis().await;
    for _ in 0..5 {
        load.goes_on().await;
    }
    fleet.restart_redis().await;
    for _ in 0..5 {
        load.goes_on().await;
    }
    load.end();
    let mut acknowledged = BTreeSet::new();
    for sender in sending {
        acknowledged.extend(sender.await.unwrap().into_iter().map(|(seq, _)| seq));
    }
    let last = *acknowledged.last().unwrap();
    assert!(acknowledged.len() >= 40, "{} messages", acknowledged.len());

    for (number, feed) in feeds.iter_mut().enumerate() {
        let mut heard = BTreeSet::new();
        let hearing = async {
            while !heard.contains(&last) {
                // The feed fails where an entry is missing, repeated or out of order.
                match feed.next().await.unwrap() {
                    Received::Event(event) if event.kind == "#message" => assert!(heard.insert(event.seq)),
                    _ => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("everything arrives");
        assert_eq!(heard, acknowledged, "person {number}");
    }
    let carried = proxy.carried();
    assert!(carried.iter().all(|connections| *connections > 0), "{carried:?}");
    drop(feeds);
    fleet.stop().await;
}
