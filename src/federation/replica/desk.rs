//! The replication scheduler: decides which followers are due.
//!
//! Invariants: one request is in flight for each stream and follower, eight for each follower; no follower waits for
//! another; a committed entry is read once no entry can appear before it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::PoisonError;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::courier::{LEASE, Served, TROUBLE};
use super::{Replicas, store};
use crate::log::Error;
use crate::types::UnixMillis;

/// Requests at a time for one follower.
const IN_FLIGHT: usize = 8;
/// Everything that is due is looked for at least so often: another replica may have died.
const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Interval between two checks of entries that an open writer holds back.
const FENCED: Duration = Duration::from_millis(20);

pub(super) async fn run(replicas: Replicas, stop: CancellationToken) {
    let mut commits = replicas.log().hub().commits();
    let mut desk = Desk::new(replicas.clone(), stop.clone());
    let mut sweep_at = Instant::now();
    match store::unreached_servers(replicas.storage().pool()).await {
        Ok(away) => replicas.inner.away.lock().unwrap_or_else(PoisonError::into_inner).extend(away),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "who is away is not known"),
    }
    loop {
        let woken = *commits.borrow_and_update();
        let sweeps = Instant::now() >= sweep_at;
        if let Err(error) = desk.look_around(sweeps).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "followers could not be looked after");
            tokio::time::sleep(TROUBLE).await;
        } else if sweeps {
            sweep_at = Instant::now() + SWEEP_EVERY;
        }
        let mut next = desk.next_retry().map_or(sweep_at, |at| at.min(sweep_at));
        if desk.position < woken {
            // An older writer is still open: the entries are read once no entry can appear before them.
            next = next.min(Instant::now() + FENCED);
        }
        tokio::select! {
            () = stop.cancelled() => break,
            changed = commits.changed() => if changed.is_err() { break },
            () = replicas.inner.wake.notified() => sweep_at = Instant::now(),
            Some(Ok(served)) = desk.sending.join_next(), if !desk.sending.is_empty() => desk.settle(served).await,
            () = tokio::time::sleep_until(next) => desk.retry().await,
        }
    }
    // Requests in flight end in order and release their leases.
    while desk.sending.join_next().await.is_some() {}
}

/// A scheduled look at a server. The monotonic timer wakes the scheduler, and `due` decides, because the database
/// compares due times with the wall clock, which may be behind the timer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Retry {
    wake: Instant,
    due: UnixMillis,
    server: String,
}

/// The requests in flight, and the waiting followers.
struct Desk {
    replicas: Replicas,
    stop: CancellationToken,
    position: i64,
    sending: JoinSet<Served>,
    in_flight: HashMap<String, usize>,
    /// Servers for which more was due than could be sent.
    waiting: HashSet<String>,
    retries: BTreeSet<Retry>,
}

impl Desk {
    fn new(replicas: Replicas, stop: CancellationToken) -> Self {
        let (sending, in_flight, waiting) = (JoinSet::new(), HashMap::new(), HashSet::new());
        let position = replicas.log().hub().position().to_db();
        Self { replicas, stop, position, sending, in_flight, waiting, retries: BTreeSet::new() }
    }

    /// Followers of the streams in which something was committed since the last look; with `sweeps`, all that are due.
    async fn look_around(&mut self, sweeps: bool) -> Result<(), Error> {
        if sweeps {
            self.look(None).await?;
        }
        loop {
            let (streams, upto) = store::touched(self.replicas.storage().pool(), self.position).await?;
            if upto == self.position {
                return Ok(());
            }
            self.position = upto;
            if !streams.is_empty() {
                self.look(Some(&streams)).await?;
            }
        }
    }

    async fn look(&mut self, streams: Option<&[i64]>) -> Result<(), Error> {
        let now = self.replicas.clock().now();
        for server in store::due_servers(self.replicas.storage().pool(), streams, now).await? {
            self.lease(&server, streams).await?;
        }
        Ok(())
    }

    /// Sends to one server what is due, of these streams or of all, as far as it may have more at a time.
    async fn lease(&mut self, server: &str, streams: Option<&[i64]>) -> Result<(), Error> {
        let free = IN_FLIGHT.saturating_sub(self.in_flight.get(server).copied().unwrap_or_default());
        if free == 0 {
            self.waiting.insert(server.to_owned());
            return Ok(());
        }
        let limit = i64::try_from(free).unwrap_or(1);
        let now = self.replicas.clock().now();
        let leases = store::lease(self.replicas.storage().pool(), server, streams, limit, LEASE, now).await?;
        if leases.len() == free {
            self.waiting.insert(server.to_owned());
        }
        for lease in leases {
            *self.in_flight.entry(server.to_owned()).or_default() += 1;
            let (replicas, stop) = (self.replicas.clone(), self.stop.clone());
            self.sending.spawn(async move { replicas.serve(lease, stop).await });
        }
        Ok(())
    }

    async fn settle(&mut self, served: Served) {
        let Served { lease, again, more } = served;
        if let Some(count) = self.in_flight.get_mut(&lease.server) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&lease.server);
            }
        }
        if let Some(pause) = again {
            self.retry_after(pause, lease.server.clone());
        }
        let outcome = if self.waiting.remove(&lease.server) {
            self.lease(&lease.server, None).await
        } else if more {
            self.lease(&lease.server, Some(&[lease.stream_id])).await
        } else {
            Ok(())
        };
        if outcome.is_err() {
            self.retry_after(TROUBLE, lease.server);
        }
    }

    fn retry_after(&mut self, pause: Duration, server: String) {
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        let due = UnixMillis(self.replicas.clock().now().0.saturating_add(pause_ms));
        self.retries.insert(Retry { wake: Instant::now() + pause, due, server });
    }

    fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|retry| retry.wake)
    }

    async fn retry(&mut self) {
        let (woken, now) = (Instant::now(), self.replicas.clock().now());
        while self.retries.first().is_some_and(|retry| retry.wake <= woken) {
            let Some(retry) = self.retries.pop_first() else { return };
            if now < retry.due {
                let remaining = Duration::from_millis((retry.due.0 - now.0).unsigned_abs());
                let wake = woken + remaining.clamp(FENCED, TROUBLE);
                self.retries.insert(Retry { wake, ..retry });
            } else if self.lease(&retry.server, None).await.is_err() {
                self.retry_after(TROUBLE, retry.server);
                return;
            }
        }
    }
}
