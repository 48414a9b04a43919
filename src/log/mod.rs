//! The one durable mechanism under every product: streams of hash-chained entries, and the seats that may read them.
//!
//! Invariants:
//! - per stream and term, `seq` is dense and unique, and `hash(n)` covers `hash(n-1)`;
//! - [`pos`](crate::types::Cursor) is one order for all readers: a reader that pages below the horizon misses nothing
//!   and sees nothing twice, and within a stream it rises with `seq`;
//! - seats follow from entries and from nothing else;
//! - a success is answered only after its commit.
//!
//! Two ways to order: [`StreamTx`] for methods that change their own tables in the same transaction, and
//! [`Log::submit`] for those that only append (group commit). One way to take over an order that was made elsewhere:
//! [`Log::adopt`]. One way out: entries below the horizon, by [`Log::events`], or by the [`Hub`] as they come, or from
//! the one over to the other by [`Log::cut_over`].

mod adopt;
mod append;
mod courier;
mod cursor;
mod cut_over;
mod erasure;
mod error;
mod features;
mod flow;
mod frame;
mod handover;
mod hub;
mod identity;
mod origin;
mod page;
mod partitions;
mod read;
mod recover;
mod relay;
mod replica;
mod retention;
mod seating;
mod seats;
mod state;
mod store;
mod tail;
mod time;
mod watermark;
mod writer;

pub use rookery_protocol::log::{
    Content, EntryKind, Fork, ForkProof, Head, NamedKind, NoFork, Sealed, StreamKind, acceptance, body, chain, fork,
    lineage,
};

pub use adopt::{Adopted, Conflict, Held, Span};
pub use append::{Draft, Seat, StreamTx, device_not_in_group, stream_not_found};
pub use courier::{Outgoing, queue, withdraw};
pub use cursor::Standing;
pub use cut_over::CutOver;
pub use error::Error;
pub use features::FEATURES;
pub use flow::LogFlow;
pub use frame::{Event, Frame, Signal, binary_message, server_sent};
pub use handover::{Handover, Replayed};
pub use hub::{Delivery, Ended, Filter, Hub, Listener, Subscription};
use identity::identity_conflict;
pub use identity::{Author, AuthorState, CallIdentity};
pub use origin::{ForeignDatabase, Raised, server_of};
pub use page::EntryPage;
pub use read::{Direction, Window};
pub use recover::recover;
pub use relay::close_sockets;
pub use replica::{Founding, RawEntry, ReplicaTx};
pub use retention::{Job, Keep, Swept};
pub use seating::Seating;
pub use seats::{ActingMember, Roster, Seat as RosterSeat, SeatChange};
pub use state::StreamState;
pub use store::{Accepted, StreamInfo, StreamRow};
pub use watermark::WatermarkError;
pub use writer::{Application, Settings as WriterSettings};

use std::sync::Arc;

use crate::config;
use crate::limit::entry_weight;
use crate::storage::Storage;
use crate::types::{Clock, Did, Hash};
use crate::worker::{Wake, Wakes, WorkerKind, Workers};

/// Bytes of the cache of immutable facts about streams.
const STREAM_CACHE_BYTES: u64 = 48 << 20;

/// The log of this server. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    /// did:web of this server: the home of every stream that it creates.
    home: Did,
    clock: Clock,
    /// The reference for this machine's clock.
    time: time::Reference,
    /// The incarnation that this process began with: it writes nothing after a raise.
    incarnation: i64,
    hub: Arc<Hub>,
    neighbours: relay::Neighbours,
    partitions: partitions::KnownPartitions,
    writer: writer::Handle,
    turns: append::Turns,
    streams: moka::sync::Cache<String, Arc<StreamInfo>>,
    courier_wake: Wake,
    erasure_wake: Wake,
    wakes: Wakes,
    retention: config::Retention,
    flow: Arc<flow::FlowMonitor>,
    read_memory: page::ReadMemory,
    /// Says which seats that other homes open are shown to their accounts.
    seating: std::sync::OnceLock<Box<dyn Seating>>,
    /// This replica's name among those on the same database: its own signals are not for itself.
    replica: String,
}

impl Log {
    /// Verifies the log's origin on this cluster, then starts writer, tailer, outbox worker, erasure and relay.
    pub async fn start(
        storage: Storage,
        home: Did,
        clock: Clock,
        settings: WriterSettings,
        config: &config::Log,
        workers: &Workers,
    ) -> Result<Self, Error> {
        let watermark = config.rollback_guard.clone().map(watermark::Watermark::new);
        let incarnation = origin::establish(&storage, &home, &clock, watermark.as_ref()).await?;
        origin::check_distance(&storage).await?;
        let time = time::agree(&storage, &clock).await?;
        let position = store::newest_readable(storage.pool()).await?;
        let hub = Arc::new(Hub::new(position));
        let flow = Arc::new(flow::FlowMonitor::new(config.stalled_after));
        let (writer, queue) = writer::Handle::new(settings);
        let link = match &config.redis_url {
            Some(url) => Some(Arc::new(relay::Link::new(url, &relay_channel(&storage).await?)?)),
            None => None,
        };
        let turns = append::Turns::new(storage.stream_transactions());
        let inner = Inner {
            storage,
            home,
            clock,
            time,
            incarnation,
            hub,
            neighbours: relay::Neighbours::default(),
            partitions: partitions::KnownPartitions::default(),
            writer,
            turns,
            streams: moka::sync::Cache::builder().max_capacity(STREAM_CACHE_BYTES).weigher(entry_weight).build(),
            courier_wake: workers.wakes().add(),
            erasure_wake: workers.wakes().add(),
            wakes: workers.wakes().clone(),
            retention: config.retention,
            flow,
            read_memory: page::ReadMemory::new(),
            seating: std::sync::OnceLock::new(),
            replica: hex::encode(rand::random::<[u8; 8]>()),
        };
        let log = Self { inner: Arc::new(inner) };
        log.ensure_partitions().await?;
        retention::begin_after_restore(&log).await;
        let stop = workers.stop();
        workers.spawn_beating(WorkerKind::LogWriter, |beat| {
            writer::run(log.clone(), queue, workers.tasks().clone(), stop.clone(), beat)
        });
        workers.spawn_beating(WorkerKind::Tailer, |beat| tail::run(log.clone(), stop.clone(), beat));
        workers.spawn_beating(WorkerKind::ClockCheck, |beat| time::run(log.clone(), stop.clone(), beat));
        workers.spawn_beating(WorkerKind::Outbox, |beat| courier::run(log.clone(), stop.clone(), beat));
        workers.spawn_beating(WorkerKind::Erasure, |beat| erasure::run(log.clone(), stop.clone(), beat));
        workers.spawn_beating(WorkerKind::Retention, |beat| retention::run(log.clone(), stop.clone(), beat));
        workers.tasks().spawn(adopt::apply_newest_of_all(log.clone()));
        workers.spawn(WorkerKind::FlowMonitor, flow::run(log.clone(), stop.clone()));
        workers
            .spawn_beating(WorkerKind::SignalsOut, |beat| relay::send(log.clone(), link.clone(), stop.clone(), beat));
        workers.spawn_beating(WorkerKind::SignalsIn, |beat| relay::hear(log.clone(), stop.clone(), beat));
        if let Some(watermark) = watermark {
            workers.spawn_beating(WorkerKind::RollbackGuard, |beat| {
                watermark::run(log.clone(), watermark, stop.clone(), beat)
            });
        }
        if let Some(elsewhere) = workers.wakes().elsewhere() {
            let signals = relay::send_work(log.clone(), link.clone(), elsewhere, stop.clone());
            workers.spawn(WorkerKind::WorkSignals, signals);
        }
        if let Some(link) = link {
            let (log, stop) = (log.clone(), stop.clone());
            workers.spawn(WorkerKind::SignalsByRedis, async move { link.run(log, stop).await });
        }
        Ok(log)
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.inner.hub
    }

    pub fn home(&self) -> &Did {
        &self.inner.home
    }

    /// Which life of the database this process began with, Unix seconds.
    pub fn incarnation(&self) -> i64 {
        self.inner.incarnation
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    /// The first answer of a call, if it happened before; `IdempotencyConflict` if another request had its name.
    pub async fn repeated(&self, stream_id: i64, identity: &CallIdentity) -> Result<Option<Accepted>, Error> {
        let mut connection = self.inner.storage.pool().acquire().await?;
        let found = store::find_accepted(&mut connection, stream_id, identity.idem, self.clock().now()).await?;
        Ok(found.map(|accepted| accepted.answer_to(identity)).transpose()?)
    }

    /// The seats and leaves of a stream, without a lock: compare `rules` before relying on them.
    pub async fn roster(&self, stream_id: i64) -> Result<Roster, Error> {
        let mut connection = self.inner.storage.pool().acquire().await?;
        store::roster(&mut connection, stream_id).await
    }

    /// The stream's row as it is now, without a lock.
    pub async fn row(&self, stream_id: i64) -> Result<StreamRow, Error> {
        store::stream_row(self.inner.storage.pool(), stream_id).await
    }

    /// Drops the stream from the cache: another instance of this server may know another home.
    pub fn forget_stream(&self, public_id: &str) {
        self.inner.streams.invalidate(public_id);
    }

    /// What seldom changes about a stream, by its public id. Its home may be of a moment ago: who writes finds out.
    pub async fn find_stream(&self, public_id: &str) -> Result<Option<Arc<StreamInfo>>, Error> {
        if let Some(info) = self.inner.streams.get(public_id) {
            return Ok(Some(info));
        }
        let found = store::find_stream(self.inner.storage.pool(), public_id).await?.map(Arc::new);
        if let Some(info) = &found {
            self.inner.streams.insert(public_id.to_owned(), Arc::clone(info));
        }
        Ok(found)
    }
}

/// One name for all instances on this database, which tells others nothing about it.
async fn relay_channel(storage: &Storage) -> Result<String, Error> {
    let (system_id, name) = store::database(storage.pool()).await?;
    Ok(hex::encode(&Hash::of(format!("{system_id} {name}").as_bytes()).0[..16]))
}
