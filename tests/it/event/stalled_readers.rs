//! `event.subscribe` for many readers at one time: those that take nothing do not delay the others.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rookery::config::SubscriberBuffer;
use rookery::log::{Delivery, Ended, Filter, Listener, Log, Subscription};
use rookery_testkit::Person;
use tokio::task::JoinSet;

use crate::support::{TestServer, conversation};

/// Devices of an account that listen, and the listeners of each.
const DEVICES: i64 = 20;
const LISTENERS: usize = 5;
const BUFFER: SubscriberBuffer = SubscriberBuffer { events: 10, bytes: 1 << 20 };
const MESSAGES: usize = 25;
const PACE: Duration = Duration::from_millis(40);
/// The most that a good reader's median may grow by beside the stalled ones, on a busy machine.
const SLACK: Duration = Duration::from_millis(60);

type Reader = (Listener, Subscription);

/// A hundred live listeners of a person's account.
async fn readers(server: &TestServer, log: &Log, person: &Person) -> Vec<Reader> {
    let mut database = server.database.connect().await;
    let account = sqlx::query_scalar::<_, i64>("select id from account where did = $1").bind(person.did().as_str());
    let account = account.fetch_one(&mut database).await.unwrap();
    let filter = Filter { kinds: HashSet::from(["#message".to_owned()]), ..Filter::default() };
    let mut readers = Vec::new();
    for device in 1..=DEVICES {
        for _ in 0..LISTENERS {
            // Rows that no device has: the hub only counts the listeners of each.
            let listener = log.listen(account, -(account * DEVICES + device)).await.unwrap().unwrap();
            let subscription = log.subscribe(&listener, filter.clone(), BUFFER).await.unwrap();
            readers.push((listener, subscription));
        }
    }
    readers
}

/// Sends messages at a steady pace; the median of the delays of all readers.
async fn median_delay(sender: &Person, stream: &str, readers: &mut Vec<Reader>) -> Duration {
    let mut reading = JoinSet::new();
    for (listener, mut subscription) in readers.drain(..) {
        reading.spawn(async move {
            let mut arrived = Vec::with_capacity(MESSAGES);
            while arrived.len() < MESSAGES {
                match subscription.next().await.unwrap() {
                    Delivery::Stored(frame) => arrived.push((frame.seq.0, Instant::now())),
                    Delivery::Ephemeral(signal) => panic!("{signal:?}"),
                }
            }
            ((listener, subscription), arrived)
        });
    }
    let (mut sent, mut pace) = (Vec::with_capacity(MESSAGES), tokio::time::interval(PACE));
    for number in 0..MESSAGES {
        pace.tick().await;
        let at = Instant::now();
        sent.push((sender.send(stream, format!("message {number}").as_bytes()).await.unwrap().seq, at));
    }
    let mut delays = Vec::new();
    while let Some(read) = reading.join_next().await {
        let (reader, arrived) = read.unwrap();
        for ((sent, at), (seq, arrived)) in sent.iter().zip(arrived) {
            assert_eq!(*sent, seq, "every message, in order");
            delays.push(arrived.saturating_duration_since(*at));
        }
        readers.push(reader);
    }
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_readers_do_not_delay_the_good_ones() {
    let server = TestServer::start().await;
    let (stream, people) = conversation(&server, 3).await;
    let log = server.server().services().log.clone();
    server.settled().await;
    let mut good = readers(&server, &log, &people[1]).await;
    let alone = median_delay(&people[0], &stream, &mut good).await;
    let stalled = readers(&server, &log, &people[2]).await;
    assert_eq!((good.len(), stalled.len()), (100, 100));
    let beside = median_delay(&people[0], &stream, &mut good).await;
    assert!(beside < alone * 2 + SLACK, "{alone:?} alone, {beside:?} beside the stalled readers");
    for (_listener, mut subscription) in stalled {
        for _ in 0..BUFFER.events {
            assert!(matches!(subscription.next().await, Ok(Delivery::Stored(_))));
        }
        assert_eq!(subscription.next().await.unwrap_err(), Ended::TooSlow);
    }
    server.stop().await;
}
