//! Who may write to a stream, one transaction at a time.
//!
//! Invariants: the turn within this process comes first, then a place among the transactions that hold locks, then a
//! connection, then the advisory lock, which waits without a transaction id and so holds back no reader. Until
//! [`StreamTx::begin_writes`] a transaction only reads; nothing slow comes after.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::{StreamTx, Won};
use crate::log::store::{self, StreamRow};
use crate::log::{Error, Log, StreamState};
use crate::storage::Tx;
use crate::types::{Detail, Refusal};

/// How often a transaction starts anew because one with a younger id appended first.
const GUARD_RETRIES: usize = 16;
/// How long a call waits for its turn in this process: as long as Postgres would let it wait for a lock.
const TURN_TIMEOUT: Duration = Duration::from_secs(8);
/// Streams whose turns are remembered. A forgotten turn costs a connection that waits in Postgres, and no correctness.
const TURNS: u64 = 100_000;
const TURN_IDLE: Duration = Duration::from_mins(1);

/// Turns of this process: one transaction per stream waits for the stream's lock with a connection, and all of them
/// together leave half of the pool to authentication, reads and workers.
pub(in crate::log) struct Turns {
    streams: moka::sync::Cache<i64, Arc<Mutex<()>>>,
    places: Arc<Semaphore>,
}

/// One transaction's turn; ends with it.
struct Turn {
    _stream: OwnedMutexGuard<()>,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    pub(in crate::log) fn new(places: u32) -> Self {
        let places = usize::try_from(places).unwrap_or(1).max(1);
        // Fixed size: one lock for each stream.
        let streams = moka::sync::Cache::builder().max_capacity(TURNS).time_to_idle(TURN_IDLE).build();
        Self { streams, places: Arc::new(Semaphore::new(places)) }
    }

    /// Waits for this stream's turn, then for a place.
    async fn take(&self, stream_id: i64) -> Result<Turn, Error> {
        let stream = self.streams.get_with(stream_id, Arc::default);
        let places = Arc::clone(&self.places);
        let waiting = async move {
            let stream = stream.lock_owned().await;
            let place = places.acquire_owned().await.map_err(|_| Error::Busy)?;
            Ok(Turn { _stream: stream, _place: place })
        };
        tokio::time::timeout(TURN_TIMEOUT, waiting).await.unwrap_or(Err(Error::Busy))
    }
}

impl Log {
    /// Begins a transaction that may append to this stream: this server is its home, and the stream takes entries. It
    /// reads until [`StreamTx::begin_writes`].
    pub async fn lock(&self, stream_id: i64) -> Result<StreamTx, Error> {
        let tx = self.turn(stream_id).await?;
        self.open_unwritten(tx, stream_id).await
    }

    /// Locks a stream for an outbox worker; `None` if another transaction holds the lock.
    pub(in crate::log) async fn lock_as_courier(&self, stream_id: i64) -> Result<Option<StreamTx>, Error> {
        let guard = self.inner.turns.take(stream_id).await?;
        self.ensure_partitions().await?;
        let mut tx = self.inner.storage.begin().await?;
        tx.hold(guard);
        if !store::try_lock_queue(tx.conn(), stream_id).await? {
            return Ok(None);
        }
        store::lock_stream_advisory(tx.conn(), stream_id).await?;
        self.open_unwritten(tx, stream_id).await.map(Some)
    }

    /// A transaction that holds the stream's advisory lock, and no transaction id yet.
    pub(in crate::log) async fn turn(&self, stream_id: i64) -> Result<Tx, Error> {
        let guard = self.inner.turns.take(stream_id).await?;
        self.ensure_partitions().await?;
        let mut tx = self.inner.storage.begin().await?;
        tx.hold(guard);
        store::lock_stream_advisory(tx.conn(), stream_id).await?;
        Ok(tx)
    }

    async fn open_unwritten(&self, mut tx: Tx, stream_id: i64) -> Result<StreamTx, Error> {
        let row = store::stream_of(tx.conn(), stream_id).await?;
        // The first to write to a stream after a restore stops the stream, if its followers were not asked yet for what
        // was lost.
        if row.incarnation != self.inner.incarnation && row.state == StreamState::Active {
            let now = self.inner.clock.now().to_datetime();
            if store::begin_recovery_of(tx.conn(), stream_id, now).await? {
                tx.commit().await?;
                return Err(Error::Halted(StreamState::Recovering));
            }
        }
        self.open_at(tx, row, None)
    }

    pub(in crate::log) fn open(&self, Won { tx, row, first_pos }: Won) -> Result<StreamTx, Error> {
        self.open_at(tx, row, Some(first_pos))
    }

    fn open_at(&self, tx: Tx, row: StreamRow, first_pos: Option<i64>) -> Result<StreamTx, Error> {
        // The server refuses a frozen stream as frozen, whichever server is its home.
        let ours = row.home == self.inner.home.as_str();
        if row.state.refuses().is_some() && (ours || row.state.is_over()) {
            return Err(Error::Halted(row.state));
        }
        if !ours {
            // Whoever came here believed otherwise.
            self.inner.streams.invalidate(row.public_id.as_str());
            let detail = Detail::new("another server orders this stream").with("home", row.home);
            return Err(Refusal::new("NotHome", detail).into());
        }
        Ok(StreamTx::new(self, tx, row, first_pos))
    }

    /// Whether what is judged from this row may be appended without looking again: its home is here, it takes entries,
    /// and its term is of this incarnation.
    pub(in crate::log) fn orders(&self, row: &StreamRow) -> bool {
        row.home == self.inner.home.as_str()
            && row.state == StreamState::Active
            && row.incarnation == self.inner.incarnation
    }

    /// Locks a stream in a transaction that is younger than the one that wrote to it last, for who writes at once.
    pub(in crate::log) async fn win(&self, stream_id: i64) -> Result<Won, Error> {
        for _ in 0..GUARD_RETRIES {
            let mut tx = self.turn(stream_id).await?;
            let row = store::stream_for_update(tx.conn(), stream_id).await?;
            let first_pos = self.first_position(&mut tx).await?;
            if row.head_pos < first_pos {
                return Ok(Won { tx, row, first_pos });
            }
            // Our id is older than the one that appended last: only a later transaction may append.
            tx.rollback().await?;
        }
        Err(Error::Busy)
    }

    /// Locks the row of a stream whose advisory lock this transaction holds, and takes a transaction id. Answers the row as
    /// it is now, and the transaction's first position. `Overtaken` where more than the head changed since `read`.
    pub(in crate::log) async fn begin_writes_at(
        &self,
        tx: &mut Tx,
        read: &StreamRow,
    ) -> Result<(StreamRow, i64), Error> {
        #[cfg(debug_assertions)]
        if store::has_transaction_id(tx.conn()).await? {
            return Err(Error::WroteTooSoon);
        }
        let row = store::stream_for_update(tx.conn(), read.id).await?;
        let first_pos = self.first_position(tx).await?;
        // The quick path moves the head alone; all else is excluded by the advisory lock.
        let same_rules = row.rules == read.rules && row.state == read.state && row.home == read.home;
        if row.head_pos < first_pos && same_rules { Ok((row, first_pos)) } else { Err(Error::Overtaken) }
    }

    /// Where this transaction's entries go. A process that began with another incarnation writes nothing more: what it
    /// keeps in memory may be of a future that was lost.
    pub(in crate::log) async fn first_position(&self, tx: &mut Tx) -> Result<i64, Error> {
        match store::first_position(tx.conn(), self.inner.incarnation).await? {
            Some(first_pos) => Ok(first_pos),
            None => {
                self.inner.storage.uproot();
                Err(Error::Busy)
            }
        }
    }
}

impl StreamTx {
    /// Ends the reading: takes the row's lock and a transaction id, from which on this transaction holds back every
    /// reader of the log. Everything that can be read is read before. `Overtaken` where another transaction was quicker.
    pub async fn begin_writes(&mut self) -> Result<(), Error> {
        if self.first_pos.is_some() {
            return Ok(());
        }
        let (row, first_pos) = self.log.begin_writes_at(&mut self.tx, &self.row).await?;
        self.head = row.head();
        (self.row, self.first_pos) = (row, Some(first_pos));
        Ok(())
    }
}
