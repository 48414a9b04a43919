//! `event.subscribe` for many readers at one time: those that take nothing do not delay the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookery::lexicon::Method;
use rookery::lexicon::event::subscribe::Subscribe;
use rookery_testkit::Person;
use tokio::task::JoinSet;

use crate::support::{Socket, TestServer, conversation};

/// Devices of each account, and sockets of each device.
const DEVICES: usize = 10;
const SOCKETS: usize = 5;
const MESSAGES: usize = 25;
const PACE: Duration = Duration::from_millis(60);
/// Bytes of a message: a connection whose client takes nothing is full after a few.
const BYTES: usize = 20_000;
/// The most that a good reader's median may grow by beside the stalled ones, on a busy machine.
const SLACK: Duration = Duration::from_millis(60);

/// The sockets of two accounts, with a window of so many bytes for what is not read.
async fn sockets(server: &TestServer, accounts: &[Arc<Person>], window: Option<u32>) -> Vec<Socket> {
    let mut sockets = Vec::new();
    for account in accounts {
        for _ in 0..DEVICES {
            let device = server.next_device(account).await;
            for _ in 0..SOCKETS {
                let token = Some(device.token(Subscribe::NSID));
                sockets.push(Socket::connect(server, "?kinds=%23message", token, window).await);
            }
        }
    }
    sockets
}

/// Sends messages at a steady pace; the median of the delays of all readers.
async fn median_delay(sender: &Person, stream: &str, readers: &mut Vec<Socket>) -> Duration {
    let mut reading = JoinSet::new();
    for mut socket in readers.drain(..) {
        reading.spawn(async move {
            let mut arrived = Vec::with_capacity(MESSAGES);
            while arrived.len() < MESSAGES {
                let (_, body) = socket.event().await;
                arrived.push((body["seq"].as_u64().unwrap(), Instant::now()));
            }
            (socket, arrived)
        });
    }
    let (mut sent, mut pace) = (Vec::with_capacity(MESSAGES), tokio::time::interval(PACE));
    for _ in 0..MESSAGES {
        pace.tick().await;
        let at = Instant::now();
        sent.push((sender.send(stream, &[7; BYTES]).await.unwrap().seq, at));
    }
    let mut delays = Vec::new();
    while let Some(read) = reading.join_next().await {
        let (socket, arrived) = read.unwrap();
        for ((sent, at), (seq, arrived)) in sent.iter().zip(arrived) {
            assert_eq!(*sent, seq, "every message, in order");
            delays.push(arrived.saturating_duration_since(*at));
        }
        readers.push(socket);
    }
    delays.sort_unstable();
    delays[delays.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_stalled_readers_do_not_delay_a_hundred_good_ones() {
    let server = TestServer::start_with(&[("SSE_BUFFER_SIZE", "10")]).await;
    let (stream, people) = conversation(&server, 5).await;
    let mut good = sockets(&server, &people[1..3], None).await;
    server.settled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let alone = median_delay(&people[0], &stream, &mut good).await;
    let stalled = sockets(&server, &people[3..5], Some(2048)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let beside = median_delay(&people[0], &stream, &mut good).await;
    assert!(beside < alone * 2 + SLACK, "{alone:?} alone, {beside:?} beside {} stalled readers", stalled.len());
    for mut socket in stalled {
        socket.ends("ConsumerTooSlow", 1008).await;
    }
    server.stop().await;
}
