//! Replicas wake each other by Redis where there is one, and lose nothing when it goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::mls::update_cursor::{self, UpdateCursor};
use rookery::server::Server;
use rookery_client::Service;
use rookery_client::{Feed, Received};
use rookery_testkit::Person;
use sqlx::postgres::PgListener;

use crate::support::{Redis, TestServer, conversation};

/// Well below the slow poll of half a second: what arrives in this time was signalled.
const SIGNALLED: Duration = Duration::from_millis(300);
/// Replicas find out that Redis went or came within this time, on a busy machine.
const NOTICED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who talks on one replica, and the same account's other device, listening on another.
struct Pair {
    server: TestServer,
    replica: Server,
    stream: String,
    speaker: Arc<Person>,
    feed: Feed,
    /// Hears what replicas say by Postgres.
    notified: PgListener,
}

impl Pair {
    async fn start(redis: Option<&Redis>) -> Self {
        let url = redis.map(Redis::url);
        let settings: Vec<(&str, &str)> = url.iter().map(|url| ("REDIS_URL", url.as_str())).collect();
        let server = Box::pin(TestServer::start_alone_with(&settings)).await;
        let replica = Box::pin(server.replica_with(&settings)).await;
        let elsewhere = Service::new(&format!("http://{}", replica.address()), TestServer::did()).unwrap();
        let (stream, people) = Box::pin(conversation(&server, 2)).await;
        let speaker = Arc::clone(&people[0]);
        let listener = Person::new("listener", Arc::clone(speaker.account()), Arc::new(elsewhere)).unwrap();
        listener.register().await.unwrap();
        let mut feed = Feed::new(&listener, None);
        feed.connect().await.unwrap();
        let mut notified = PgListener::connect(&server.database.url).await.unwrap();
        notified.listen("rookery_log").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        Self { server, replica, stream, speaker, feed, notified }
    }

    /// How long a message took from its receipt to the other replica's socket.
    async fn delay(&mut self) -> Duration {
        let sent = self.speaker.send(&self.stream, b"are you there?").await.unwrap();
        let told = Instant::now();
        let heard = async {
            loop {
                match self.feed.next().await.unwrap() {
                    Received::Event(event) if event.kind == "#message" => break event.seq,
                    _ => {}
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, heard).await.expect("it arrives"), sent.seq);
        told.elapsed()
    }

    async fn is_quick(&mut self) {
        let mut delays = Vec::new();
        for _ in 0..5 {
            delays.push(self.delay().await);
        }
        delays.sort();
        assert!(delays[2] < SIGNALLED, "the median of {delays:?} is that of the poll");
    }

    /// Whether Postgres carried anything of the messages that are sent now.
    async fn by_postgres(&mut self) -> bool {
        let heard = |notified: &mut PgListener| notified.next_buffered().is_some();
        while tokio::time::timeout(Duration::from_millis(20), self.notified.recv()).await.is_ok() {}
        while heard(&mut self.notified) {}
        for _ in 0..3 {
            self.delay().await;
        }
        tokio::time::timeout(Duration::from_millis(100), self.notified.recv()).await.is_ok()
    }

    async fn until_by_postgres(&mut self, wanted: bool) {
        let until = Instant::now() + NOTICED;
        while self.by_postgres().await != wanted {
            assert!(Instant::now() < until, "signals by Postgres: {}", !wanted);
        }
    }

    async fn stop(self) {
        drop(self.feed);
        self.replica.stop().await.unwrap();
        self.server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_replicas_wake_each_other_without_a_word_by_postgres() {
    let redis = Redis::start().await;
    let mut pair = Pair::start(Some(&redis)).await;
    pair.until_by_postgres(false).await;
    pair.is_quick().await;
    assert!(!pair.by_postgres().await);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_in_the_middle_loses_nothing_and_is_used_again_when_it_returns() {
    let mut redis = Redis::start().await;
    let mut pair = Pair::start(Some(&redis)).await;
    pair.until_by_postgres(false).await;

    let (speaker, stream) = (Arc::clone(&pair.speaker), pair.stream.clone());
    let sending = tokio::spawn(async move {
        let mut last = 0;
        for number in 0..60 {
            last = speaker.send(&stream, format!("message {number}").as_bytes()).await.unwrap().seq;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        last
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    redis.kill().await;
    let last = sending.await.unwrap();
    // The feed checks that no entry is missing, repeated or out of order.
    let everything =
        async { while !matches!(pair.feed.next().await.unwrap(), Received::Event(event) if event.seq == last) {} };
    tokio::time::timeout(PATIENCE, everything).await.expect("everything arrives");
    assert!(pair.by_postgres().await, "Postgres carries while Redis is away");
    pair.is_quick().await;
    assert_eq!(pair.server.ready().await.0, 200, "Redis does not decide it");

    redis.restart().await;
    pair.until_by_postgres(false).await;
    pair.is_quick().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_and_serves_without_the_redis_that_it_was_told_of() {
    let mut redis = Redis::start().await;
    redis.kill().await;
    let mut pair = Pair::start(Some(&redis)).await;
    pair.is_quick().await;
    assert_eq!(pair.server.ready().await.0, 200);
    redis.restart().await;
    pair.until_by_postgres(false).await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_position_reaches_the_accounts_devices_on_other_replicas_either_way() {
    let redis = Redis::start().await;
    for redis in [None, Some(&redis)] {
        let mut pair = Pair::start(redis).await;
        pair.until_by_postgres(redis.is_none()).await;
        let input = update_cursor::Input { stream: pair.stream.clone(), seq: 1 };
        pair.speaker.procedure::<UpdateCursor>(&input).await.unwrap();
        let heard = async {
            loop {
                if let Received::Read(read) = pair.feed.next().await.unwrap() {
                    break read;
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, heard).await.expect("it arrives");
        assert_eq!((read.stream.as_str(), read.seq), (pair.stream.as_str(), 1));
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_redis_do_not_wake_each_other() {
    let redis = Redis::start().await;
    let settings = [("REDIS_URL", &*redis.url())];
    let (one, two) = (TestServer::start_with(&settings).await, TestServer::start_with(&settings).await);
    let until = Instant::now() + NOTICED;
    let mut channels = String::new();
    while channels.matches("rookery:log:").count() != 2 {
        assert!(Instant::now() < until, "{channels}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        channels = redis.ask("PUBSUB CHANNELS").await;
    }
    // One subscriber on each.
    for channel in channels.lines().filter(|line| line.starts_with("rookery:log:")) {
        let subscribers = redis.ask(&format!("PUBSUB NUMSUB {channel}")).await;
        assert!(subscribers.contains(":1\r\n"), "{subscribers}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_alone_sends_no_notify() {
    let mut pair = Pair::start(None).await;
    assert!(pair.by_postgres().await, "two instances signal each other");
    let Pair { server, replica, stream, speaker, feed, mut notified } = pair;
    drop(feed);
    replica.stop().await.unwrap();
    // A NOTIFY of the server to itself is its sign of life.
    let mut looks = async || {
        while tokio::time::timeout(Duration::from_millis(20), notified.recv()).await.is_ok() {}
        speaker.send(&stream, b"is anybody there?").await.unwrap();
        let signal = async { while !notified.recv().await.unwrap().payload().contains(" look ") {} };
        tokio::time::timeout(Duration::from_millis(300), signal).await.is_ok()
    };
    let until = Instant::now() + Duration::from_mins(1);
    while looks().await {
        assert!(Instant::now() < until, "an instance that is alone still sends signals");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let replica = Box::pin(server.replica_with(&[])).await;
    let until = Instant::now() + NOTICED;
    while !looks().await {
        assert!(Instant::now() < until, "a new instance gets no signals");
    }
    replica.stop().await.unwrap();
    server.stop().await;
}
