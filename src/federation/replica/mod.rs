//! Streams across servers: replicas of other servers' streams, and the replication of this server's own
//! (docs/FEDERATION.md, "Following").
//!
//! Invariants: a replica holds entries as the home made them, or nothing; any server that got two different entries at
//! one seq detects the home's fork, and the home's own signatures prove it; a backlog costs one row of any length; a
//! failure of one stream, or of one server, delays no other.

mod absent;
mod courier;
mod cross_check;
mod desk;
mod erasures;
mod evidence;
mod follow;
mod handover;
mod home;
mod receipts;
mod recovery;
mod resume;
mod rewind;
mod store;
mod support;
mod take;
mod view;
mod watch;
mod wire;

pub use follow::{FollowError, Followed};
pub use handover::{HandError, Next, Order, TRANSFER_BYTES, Transfer};
pub use home::{Entries, Following, Witnessed};
pub use recovery::{Shown, go_on};
pub use resume::{resume_peer, resume_stream};
pub use rewind::{GivenUp, RewindRefused, accept_rewind};
pub use take::{Taken, TakenState};
pub use view::{View, ViewDevice, ViewMember};
pub use watch::proof_of;
pub use wire::{Replicate, WireEntry, WireErasure};

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync::Cache;

use super::Federation;
use crate::identity::Signed;
use crate::log::chain::{CHECKPOINT_LABEL, Checkpoint};
use crate::log::{Error, Head, Log};
use crate::storage::Storage;
use crate::types::{Clock, Did, Refusal};
use crate::worker::{Wake, WorkerKind, Workers};

/// Entries of one request, and bytes of its body.
pub const REQUEST_ENTRIES: u32 = 256;
pub const REQUEST_BYTES: usize = 8 << 20;
/// Fresh checkpoints of a stream are made at most this often; an earlier request gets the latest one.
const FRESH_EVERY: Duration = Duration::from_secs(10);
const FRESH_STREAMS: u64 = 10_000;
const SILENT_SERVERS: u64 = 10_000;

/// How long things take that an operator, or a test, may want otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a home waits for followers that do not answer before it goes on without what they may hold.
    pub recovery_wait: Duration,
    /// Bounds of the replication sender's pauses.
    pub pauses: (Duration, Duration),
    /// Interval between two checks for due work.
    pub look_every: Duration,
}

impl Timing {
    pub const fn with_recovery_wait(recovery_wait: Duration) -> Self {
        let pauses = (Duration::from_secs(1), Duration::from_mins(10));
        Self { recovery_wait, pauses, look_every: Duration::from_secs(5) }
    }
}

/// The replicas of this server, and the followers of its streams. Cheap to clone.
#[derive(Clone)]
pub struct Replicas {
    inner: Arc<Inner>,
}

struct Inner {
    log: Log,
    federation: Arc<Federation>,
    timing: Timing,
    /// Signals that a server began to follow, or that other work is due at once.
    wake: Wake,
    watch: Wake,
    fresh: Cache<i64, (crate::types::Seq, Signed)>,
    /// Followers that could not be reached when they were last tried.
    away: Mutex<HashSet<String>>,
    /// Followers that left a question about a recovering stream unanswered a moment ago: the next streams do not wait for
    /// them again.
    silent: Cache<String, ()>,
}

impl Replicas {
    /// Starts the replication sender and the peer monitor, if this server federates. They end with `stop`.
    pub fn start(log: Log, federation: Arc<Federation>, timing: Timing, workers: &Workers) -> Self {
        // Fixed size: checkpoints that this server signed itself.
        let fresh = Cache::builder().max_capacity(FRESH_STREAMS).time_to_live(FRESH_EVERY).build();
        // Fixed size: names of servers that this server knows, of at most 256 bytes.
        let silent = Cache::builder().max_capacity(SILENT_SERVERS).time_to_live(timing.look_every).build();
        let (wake, watch, away) = (workers.wakes().add(), workers.wakes().add(), Mutex::default());
        let inner = Inner { log, federation, timing, wake, watch, fresh, away, silent };
        let replicas = Self { inner: Arc::new(inner) };
        if replicas.inner.federation.is_on() {
            let stop = workers.stop();
            workers.spawn(WorkerKind::ReplicationScheduler, desk::run(replicas.clone(), stop.clone()));
            // The scheduler knows which followers are away; without a scheduler this worker does.
            if !workers.runs(WorkerKind::ReplicationScheduler) {
                workers.spawn(WorkerKind::AbsentFollowers, absent::run(replicas.clone(), stop.clone()));
            }
            workers.spawn(WorkerKind::PeerMonitor, watch::run(replicas.clone(), stop.clone()));
            workers.spawn(WorkerKind::RestoresOfPeers, watch::rises(replicas.clone(), stop.clone()));
        }
        replicas
    }

    /// A server gave a sign of life: if it could not be reached, it is tried at once.
    pub async fn heard_from(&self, server: &Did) -> Result<(), Error> {
        let was_away = self.inner.away.lock().unwrap_or_else(PoisonError::into_inner).remove(server.as_str());
        if was_away {
            self.federation().seems_well(server);
            store::reached(self.storage().pool(), server.as_str()).await?;
            self.inner.wake.notify_one();
        }
        Ok(())
    }

    fn log(&self) -> &Log {
        &self.inner.log
    }

    fn federation(&self) -> &Federation {
        &self.inner.federation
    }

    fn storage(&self) -> &Storage {
        self.inner.log.storage()
    }

    fn clock(&self) -> &Clock {
        self.inner.log.clock()
    }

    fn is_ours(&self, home: &str) -> bool {
        home == self.inner.log.home().as_str()
    }

    /// This server's checkpoint for a committed entry.
    fn sign(&self, head: &Head) -> Result<Signed, Error> {
        let head = Head { time: self.clock().now(), ..head.clone() };
        let statement = Checkpoint::new(self.log().home().as_str(), &head).statement()?;
        Ok(self.federation().sign_statement(CHECKPOINT_LABEL, statement))
    }
}

/// To a server without a seat there is no stream.
fn stream_not_found() -> Error {
    Refusal::new("StreamNotFound", "there is no such stream, or no account of your server has a seat in it").into()
}
