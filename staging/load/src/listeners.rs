//! Devices that listen by WebSocket. Each socket checks the seq, the hash and the order of what comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use rookery_client::{Feed, Received};
use rookery_testkit::Person;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Sockets that one device may open.
pub const SOCKETS_PER_DEVICE: usize = 5;
/// Sockets that are opened at one time.
const OPENING: usize = 32;

/// Opens sockets of each of these devices, from the present on.
pub async fn open(people: &[Arc<Person>], sockets: usize) -> anyhow::Result<Vec<Feed>> {
    let devices = people.iter().flat_map(|person| std::iter::repeat_n(person, SOCKETS_PER_DEVICE)).take(sockets);
    let opening = devices.map(async |person| {
        let mut feed = Feed::new(person.as_ref(), None);
        feed.connect().await?;
        Ok::<_, anyhow::Error>(feed)
    });
    iter(opening).buffer_unordered(OPENING).try_collect().await.context("opening sockets")
}

/// When each message was sent, by its seq.
pub type SentAt = Arc<Mutex<HashMap<u64, Instant>>>;

/// Sockets that listen in tasks of their own.
pub struct Listening {
    tasks: JoinSet<anyhow::Result<()>>,
    arrivals: mpsc::UnboundedReceiver<(u64, Instant)>,
}

impl Listening {
    pub fn begin(feeds: Vec<Feed>) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for mut feed in feeds {
            let arrived = arrived.clone();
            tasks.spawn(async move {
                loop {
                    if let Received::Event(event) = feed.next().await?
                        && event.kind == "#message"
                        && arrived.send((event.seq, Instant::now())).is_err()
                    {
                        return Ok(());
                    }
                }
            });
        }
        Self { tasks, arrivals }
    }

    /// Waits for so many messages; the delay of each, in ascending order.
    pub async fn delays(
        &mut self,
        deliveries: usize,
        sent_at: &SentAt,
        within: Duration,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut arrivals = Vec::with_capacity(deliveries);
        let arriving = async {
            while arrivals.len() < deliveries {
                tokio::select! {
                    Some(arrival) = self.arrivals.recv() => arrivals.push(arrival),
                    Some(ended) = self.tasks.join_next() => ended.context("a listener panicked")??,
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(within, arriving).await.context("messages did not arrive in time")??;
        let sent_at = sent_at.lock().unwrap_or_else(PoisonError::into_inner);
        let delay = |(seq, at): (u64, Instant)| sent_at.get(&seq).map(|sent| at.saturating_duration_since(*sent));
        let mut delays: Vec<Duration> = arrivals.into_iter().filter_map(delay).collect();
        anyhow::ensure!(delays.len() == deliveries, "a message arrived that nobody sent");
        delays.sort_unstable();
        Ok(delays)
    }

    /// Ends all sockets.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
