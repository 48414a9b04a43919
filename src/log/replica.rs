//! The log's interface for replication: streams that are created from another home's snapshot, and entries as their
//! home made them.
//!
//! The callers decide which server may get which entries.

use super::chain::{Genesis, Head};
use super::seats::{Roster, SeatChange};
use super::store::{self, StreamRow};
use super::{Error, Held, Log, StreamKind, StreamState, StreamTx};
use crate::identity::Signed;
use crate::storage::{self, Tx};
use crate::types::{Did, Hash, Refusal, Seq, StreamId, Term, UnixMillis};

/// A stream of another home, as a follower that may not see its beginning creates it.
#[derive(Clone, Debug)]
pub struct Founding {
    /// By the lineage that the caller has verified.
    pub home: Did,
    pub genesis: Vec<u8>,
    /// The checkpoint before the first entry that the replica will hold.
    pub anchor: Head,
}

/// A transaction that creates or reseats a replica, together with the caller's rows. Dropped without `commit`,
/// nothing happened.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct ReplicaTx {
    tx: Tx,
    log: Log,
    row: StreamRow,
}

/// An entry as it is shown to another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    pub seq: Seq,
    pub hash: Hash,
    pub held: Held,
}

impl Log {
    /// Begins a transaction on a stream of another home; it creates the replica if there is none.
    pub async fn replica(&self, founding: &Founding) -> Result<ReplicaTx, Error> {
        let genesis = Genesis::decode_exact(&founding.genesis)?;
        let stream = StreamId::of_genesis(&founding.genesis);
        let kind = StreamKind::from_name(&genesis.kind)
            .filter(|_| founding.anchor.stream == stream)
            .ok_or_else(|| Refusal::new("ChainBroken", "the anchor is not of a stream that could be followed"))?;
        if let Some(stream_id) = store::find_stream_id(self.inner.storage.pool(), &stream).await? {
            let won = self.win(stream_id).await?;
            if won.row.home == self.inner.home.as_str() {
                return Err(Refusal::new("NotHome", "this server orders the stream itself").into());
            }
            return Ok(ReplicaTx { tx: won.tx, log: self.clone(), row: won.row });
        }
        if founding.home == self.inner.home {
            return Err(Refusal::new("NotHome", "this server ordered the stream there, and does not hold it").into());
        }
        let mut tx = self.inner.storage.begin().await?;
        let (home, incarnation) = (founding.home.as_str(), self.inner.incarnation);
        let row = store::insert_stream(tx.conn(), &founding.anchor, kind, home, incarnation, &founding.genesis).await;
        let row = row.map_err(|error| match error {
            // Another instance created it at the same moment.
            Error::Storage(storage::Error::Constraint { source, .. }) => storage::Error::Collision(source).into(),
            error => error,
        })?;
        Ok(ReplicaTx { tx, log: self.clone(), row })
    }

    /// Opens such a transaction on a replica that exists.
    pub async fn replica_of(&self, stream_id: i64) -> Result<ReplicaTx, Error> {
        let won = self.win(stream_id).await?;
        Ok(ReplicaTx { tx: won.tx, log: self.clone(), row: won.row })
    }

    /// Entries from `from` on, as made: at most `limit`, and of as many bytes, but at least one. Contents come where a
    /// seat of `reader` covers them; without a reader, wherever they are.
    pub async fn raw_entries(
        &self,
        stream_id: i64,
        from: Seq,
        limit: u32,
        max_bytes: usize,
        reader: Option<&Did>,
    ) -> Result<Vec<RawEntry>, Error> {
        let max_bytes = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let reader = reader.map(Did::as_str);
        store::raw_entries(self.inner.storage.pool(), stream_id, from, limit, max_bytes, reader).await
    }

    /// Messages between these two numbers, both included, made since `since`, that `reader` has a right to and that are
    /// held without content.
    pub async fn missing_messages(
        &self,
        stream_id: i64,
        (from, until): (Seq, Seq),
        reader: &Did,
        since: UnixMillis,
    ) -> Result<Vec<Seq>, Error> {
        let pool = self.inner.storage.pool();
        store::missing_messages(pool, stream_id, (from, until), reader.as_str(), since).await
    }

    /// Entries after `after` that take contents back, oldest first.
    pub async fn erasures(&self, stream_id: i64, after: Seq, limit: u32) -> Result<Vec<RawEntry>, Error> {
        store::erasures(self.inner.storage.pool(), stream_id, after, limit).await
    }

    /// Headers alone, after `after` and up to `until`.
    pub async fn headers(&self, stream_id: i64, after: Seq, until: Seq) -> Result<Vec<Vec<u8>>, Error> {
        let mut connection = self.inner.storage.pool().acquire().await?;
        let headers = store::headers(&mut connection, stream_id, after.next(), until).await?;
        Ok(headers.into_values().collect())
    }

    /// The stream as it stood after one of its entries.
    pub async fn head_at(&self, stream_id: i64, seq: Seq) -> Result<Option<Head>, Error> {
        let found = store::find_head(self.inner.storage.pool(), stream_id, seq).await?;
        Ok(found.map(|(header, hash)| Head { stream: header.stream, term: header.term, seq, hash, time: header.time }))
    }

    /// The genesis of the stream, and the entries that ended and opened its terms.
    pub async fn lineage(&self, stream_id: i64) -> Result<(Vec<u8>, Vec<RawEntry>), Error> {
        let pool = self.inner.storage.pool();
        Ok((store::genesis(pool, stream_id).await?, store::changes_of_reign(pool, stream_id).await?))
    }

    /// The home's earliest checkpoint that is held at or after this number; of one term, if it is named.
    pub async fn find_checkpoint(
        &self,
        stream_id: i64,
        seq: Seq,
        term: Option<Term>,
    ) -> Result<Option<(Seq, Signed)>, Error> {
        store::find_checkpoint(self.inner.storage.pool(), stream_id, seq, term).await
    }

    pub async fn newest_checkpoint(&self, stream_id: i64) -> Result<Option<(Seq, Signed)>, Error> {
        store::newest_checkpoint(self.inner.storage.pool(), stream_id).await
    }

    /// Begins a transaction that stops the stream for good, ours or another's; nothing if it was stopped before.
    pub async fn freezing(&self, stream_id: i64) -> Result<Option<ReplicaTx>, Error> {
        self.turning(stream_id, StreamState::Frozen).await
    }

    /// Begins a transaction in which the stream takes another state; nothing if it cannot.
    pub(super) async fn turning(&self, stream_id: i64, state: StreamState) -> Result<Option<ReplicaTx>, Error> {
        let mut won = self.win(stream_id).await?;
        if !won.row.state.may_become(state) {
            return Ok(None);
        }
        store::set_state(won.tx.conn(), stream_id, state).await?;
        Ok(Some(ReplicaTx { tx: won.tx, log: self.clone(), row: won.row }))
    }

    /// Orders a recovered stream again, and opens its new term, in a transaction that the caller commits: nothing is ever
    /// put into the old one.
    pub async fn going_on(&self, stream_id: i64) -> Result<StreamTx, Error> {
        let mut won = self.win(stream_id).await?;
        if won.row.state != StreamState::Recovering {
            return Err(Error::Halted(won.row.state));
        }
        store::set_state(won.tx.conn(), stream_id, StreamState::Active).await?;
        won.row.state = StreamState::Active;
        let mut tx = self.open(won)?;
        tx.reopen().await?;
        Ok(tx)
    }
}

impl ReplicaTx {
    pub fn conn(&mut self) -> &mut crate::storage::PgConnection {
        self.tx.conn()
    }

    pub fn row(&self) -> &StreamRow {
        &self.row
    }

    /// The seats and leaves of the stream, under the lock.
    pub async fn roster(&mut self) -> Result<Roster, Error> {
        store::roster(self.tx.conn(), self.row.id).await
    }

    /// Keeps a checkpoint of the home that stands for itself: an anchor.
    pub async fn keep_checkpoint(&mut self, head: &Head, signed: &Signed) -> Result<(), Error> {
        store::keep_checkpoint(self.tx.conn(), self.row.id, head, signed).await
    }

    /// Writes the seats that the home's snapshot names, as of the entry after `at`: seats that it does not name end
    /// there.
    pub async fn seat(&mut self, roster: &Roster, at: Seq) -> Result<(), Error> {
        let held = store::roster(self.tx.conn(), self.row.id).await?;
        let Difference { ends, begins } = difference(&held, roster, at);
        store::write_seats(self.tx.conn(), self.row.id, &ends).await?;
        store::know_members(self.tx.conn(), std::slice::from_ref(&begins), self.log.inner.clock.now()).await?;
        store::write_seats(self.tx.conn(), self.row.id, &begins).await?;
        self.log.asked(self.tx.conn(), self.row.id, begins.iter()).await?;
        store::raise_rules(self.tx.conn(), self.row.id).await?;
        Ok(())
    }

    pub async fn commit(self) -> Result<(), Error> {
        self.tx.commit().await?;
        self.log.inner.streams.invalidate(self.row.public_id.as_str());
        Ok(())
    }
}

/// The values by which two rosters are compared.
struct Difference {
    ends: Vec<SeatChange>,
    begins: Vec<SeatChange>,
}

/// A seat that began again is another seat.
fn difference(held: &Roster, told: &Roster, at: Seq) -> Difference {
    let (mut ends, mut begins) = (Vec::new(), Vec::new());
    for (account, seat) in &held.seats {
        if told.seats.get(account).is_none_or(|new| new.from != seat.from) {
            ends.push(SeatChange::Closed { account: account.clone(), until: at });
        }
    }
    for (leaf, from) in &held.leaves {
        if told.leaves.get(leaf) != Some(from) {
            let (account, device) = leaf.clone();
            ends.push(SeatChange::LeafRemoved { account, device, until: at });
        }
    }
    for (account, seat) in &told.seats {
        match held.seats.get(account) {
            Some(old) if old.from == seat.from && old.role == seat.role => {}
            Some(old) if old.from == seat.from => {
                begins.push(SeatChange::Role { account: account.clone(), role: seat.role.clone() });
            }
            _ => begins.push(SeatChange::Opened { account: account.clone(), seat: seat.clone() }),
        }
    }
    for (leaf, from) in &told.leaves {
        if held.leaves.get(leaf) != Some(from) {
            let (account, device) = leaf.clone();
            begins.push(SeatChange::LeafAdded { account, device, from: *from });
        }
    }
    Difference { ends, begins }
}
