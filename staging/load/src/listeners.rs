//! Devices that listen by WebSocket. Each socket checks the seq, the hash and the order of what comes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::senders::Sender;
use crate::sockets::Socket;

/// Messages that did not reach every socket within this time are lost.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// Sockets that listen in tasks of their own.
pub struct Listening {
    tasks: JoinSet<anyhow::Result<()>>,
    arrivals: mpsc::UnboundedReceiver<(u64, Instant)>,
    count: usize,
}

impl Listening {
    pub fn begin(sockets: Vec<Socket>) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (mut tasks, count) = (JoinSet::new(), sockets.len());
        for mut socket in sockets {
            let arrived = arrived.clone();
            tasks.spawn(async move {
                loop {
                    let event = socket.event().await?;
                    if event.kind == "#message" && arrived.send((event.seq, Instant::now())).is_err() {
                        return Ok(());
                    }
                }
            });
        }
        Self { tasks, arrivals, count }
    }

    /// Sends messages of one conversation at this pace for so long, and waits until each has reached every socket; the
    /// delays from the call to the delivery, in ascending order.
    pub async fn deliver(&mut self, sender: &Sender, pace: Duration, time: Duration) -> anyhow::Result<Vec<Duration>> {
        let (mut sent_at, mut ticks, began) = (HashMap::new(), tokio::time::interval(pace), Instant::now());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while began.elapsed() < time || sent_at.is_empty() {
            ticks.tick().await;
            let at = Instant::now();
            sent_at.insert(sender.send(0).await?.seq, at);
        }
        let (mut delays, expected) = (Vec::new(), sent_at.len() * self.count);
        let arriving = async {
            while delays.len() < expected {
                tokio::select! {
                    Some((seq, at)) = self.arrivals.recv() => {
                        let sent = sent_at.get(&seq).context("a message arrived that nobody sent")?;
                        delays.push(at.saturating_duration_since(*sent));
                    }
                    Some(ended) = self.tasks.join_next() => ended.context("a listener panicked")??,
                }
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(ARRIVES_WITHIN, arriving).await.context("messages did not arrive in time")??;
        delays.sort_unstable();
        Ok(delays)
    }

    /// An error if a socket ended.
    pub fn all_are_live(&mut self) -> anyhow::Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended.context("a listener panicked")?.context("a socket ended"),
            None => Ok(()),
        }
    }

    /// Ends all sockets.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}
