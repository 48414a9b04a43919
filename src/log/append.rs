//! The transaction path: a method changes its own tables and appends to one stream, in one commit.
//!
//! Invariant: the advisory lock is taken first, the row lock second, and the transaction's id is compared with the
//! stream's head before anything is written, so that positions rise with `seq`.

mod members;
mod refusals;
mod requires;
mod terms;

use super::body::{Body, ErasedBody};
use super::chain::{Content, Genesis, Head, Sealed};
use super::identity::{Author, CallIdentity};
use super::retention::Keep;
use super::seats::{Roster, SeatChange};
use super::store::{self, StreamRow};
use super::{Application, EntryKind, Error, Log, StreamKind, StreamState};
use crate::storage::Tx;
use crate::telemetry::metric_name;
use crate::types::{Detail, Did, Epoch, Hash, Refusal, Seq, StreamId, UnixMillis};

pub use refusals::{device_not_in_group, stream_not_found};
pub(super) use refusals::{no_seat, role_unknown};
pub(super) use requires::require;
pub(super) use terms::later;

/// Positions of one transaction: `base + (xid << 10) + index`.
pub(super) const ENTRIES_PER_TRANSACTION: i64 = 1024;
/// One may go before them that opens a term.
pub(super) const DRAFTS_PER_TRANSACTION: usize = 1023;
/// How often a transaction restarts because one with a younger id appended first.
const GUARD_RETRIES: usize = 16;

/// Proof of a caller's right to append: only this module creates it, with the stream locked.
#[derive(Debug)]
pub struct Seat {
    author: Option<Author>,
    role: super::body::Role,
}

impl Seat {
    pub fn role(&self) -> &super::body::Role {
        &self.role
    }
}

/// An entry to be appended.
#[derive(Debug)]
pub struct Draft {
    pub kind: EntryKind,
    /// For MLS kinds: from the MLS bytes.
    pub epoch: Option<Epoch>,
    pub body: Vec<u8>,
    pub identity: Option<CallIdentity>,
}

/// A stream locked, and where this transaction's entries go.
pub(super) struct Won {
    pub tx: Tx,
    pub row: StreamRow,
    pub first_pos: i64,
}

/// A stream locked for this transaction. Dropped without `commit`, nothing happened.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct StreamTx {
    tx: Tx,
    log: Log,
    row: StreamRow,
    head: Head,
    /// `base + (xid << 10)`: the first position of this transaction.
    first_pos: i64,
    index: i64,
    roster: Option<Roster>,
    rules_changed: bool,
    /// Kinds appended so far, to be counted once they are durable.
    appended: Vec<EntryKind>,
    pub(super) wakes_courier: bool,
}

impl Log {
    /// Begins a transaction that may append to this stream: this server is its home, and the stream takes entries.
    pub async fn lock(&self, stream_id: i64) -> Result<StreamTx, Error> {
        let won = self.win(stream_id).await?;
        self.open_recovered(won).await
    }

    /// Locks a stream for an outbox worker; `None` if another transaction holds the lock.
    pub(super) async fn lock_as_courier(&self, stream_id: i64) -> Result<Option<StreamTx>, Error> {
        match self.win_as(stream_id, true).await? {
            Some(won) => self.open_recovered(won).await.map(Some),
            None => Ok(None),
        }
    }

    /// Opens a stream for its first write after a restore, and stops it if its followers have not been asked for lost
    /// entries.
    async fn open_recovered(&self, mut won: Won) -> Result<StreamTx, Error> {
        let stale = won.row.incarnation != self.inner.incarnation && won.row.state == StreamState::Active;
        if stale {
            let now = self.inner.clock.now().to_datetime();
            if store::begin_recovery_of(won.tx.conn(), won.row.id, now).await? {
                won.tx.commit().await?;
                return Err(Error::Halted(StreamState::Recovering));
            }
        }
        self.open(won)
    }

    pub(super) fn open(&self, Won { tx, row, first_pos }: Won) -> Result<StreamTx, Error> {
        // A frozen stream is refused as such, wherever its home is.
        let ours = row.home == self.inner.home.as_str();
        if row.state.refuses().is_some() && (ours || row.state.is_over()) {
            return Err(Error::Halted(row.state));
        }
        if !ours {
            // The caller assumed otherwise.
            self.inner.streams.invalidate(row.public_id.as_str());
            let detail = Detail::new("another server orders this stream").with("home", row.home);
            return Err(Refusal::new("NotHome", detail).into());
        }
        let head = row.head();
        Ok(StreamTx {
            tx,
            log: self.clone(),
            row,
            head,
            first_pos,
            index: 0,
            roster: None,
            rules_changed: false,
            appended: Vec::new(),
            wakes_courier: false,
        })
    }

    /// Whether what is judged from this row may be appended without looking again: its home is here, it takes entries,
    /// and its term is of this incarnation.
    pub(super) fn orders(&self, row: &StreamRow) -> bool {
        row.home == self.inner.home.as_str()
            && row.state == StreamState::Active
            && row.incarnation == self.inner.incarnation
    }

    /// Locks a stream in a transaction that is younger than the one that wrote to it last. What either door begins with.
    pub(super) async fn win(&self, stream_id: i64) -> Result<Won, Error> {
        self.win_as(stream_id, false).await?.ok_or(Error::Busy)
    }

    async fn win_as(&self, stream_id: i64, courier: bool) -> Result<Option<Won>, Error> {
        for _ in 0..GUARD_RETRIES {
            let mut tx = self.inner.storage.begin().await?;
            if courier && !store::try_lock_queue(tx.conn(), stream_id).await? {
                return Ok(None);
            }
            store::lock_stream_advisory(tx.conn(), stream_id).await?;
            let row = store::stream_for_update(tx.conn(), stream_id).await?;
            let first_pos = self.first_position(&mut tx).await?;
            if row.head_pos < first_pos {
                return Ok(Some(Won { tx, row, first_pos }));
            }
            // Our id is older than the one that appended last: only a later transaction may append.
            tx.rollback().await?;
        }
        Err(Error::Busy)
    }

    /// Where this transaction's entries go. A process that began with another incarnation writes nothing more: what it
    /// keeps in memory may be of a future that was lost.
    pub(super) async fn first_position(&self, tx: &mut Tx) -> Result<i64, Error> {
        match store::first_position(tx.conn(), self.inner.incarnation).await? {
            Some(first_pos) => Ok(first_pos),
            None => {
                self.inner.storage.uproot();
                Err(Error::Busy)
            }
        }
    }

    /// Founds a stream with its first entry, `#opened`, in a transaction that `tx` began.
    pub async fn found(&self, mut tx: Tx, kind: StreamKind) -> Result<StreamTx, Error> {
        let now = self.entry_time();
        let genesis = Genesis::new(kind, self.inner.home.as_str(), now);
        let bytes = genesis.encode()?;
        let head = Head {
            stream: StreamId::of_genesis(&bytes),
            term: genesis.term(),
            seq: Seq(0),
            hash: Hash::ZERO,
            time: now,
        };
        let (home, incarnation) = (self.inner.home.as_str(), self.inner.incarnation);
        let row = store::insert_stream(tx.conn(), &head, kind, home, incarnation, &bytes).await?;
        let first_pos = self.first_position(&mut tx).await?;
        let mut tx = StreamTx {
            tx,
            log: self.clone(),
            row,
            head,
            first_pos,
            index: 0,
            roster: Some(Roster::default()),
            rules_changed: true,
            appended: Vec::new(),
            wakes_courier: false,
        };
        tx.append(&Seat::server(), Draft { kind: EntryKind::Opened, epoch: None, body: bytes, identity: None }).await?;
        Ok(tx)
    }
}

impl Seat {
    /// The server itself: device chains, the outbox worker, the first entry.
    fn server() -> Self {
        Self { author: None, role: super::body::Role::Member }
    }
}

impl StreamTx {
    pub fn conn(&mut self) -> &mut crate::storage::PgConnection {
        self.tx.conn()
    }

    pub fn row(&self) -> &StreamRow {
        &self.row
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    pub fn now(&self) -> UnixMillis {
        self.log.inner.clock.now()
    }

    /// The seats and leaves of the stream, under the lock.
    pub async fn roster(&mut self) -> Result<&Roster, Error> {
        let roster = match self.roster.take() {
            Some(roster) => roster,
            None => store::roster(self.tx.conn(), self.row.id).await?,
        };
        Ok(self.roster.insert(roster))
    }

    /// The right to act in this stream: an open seat, and for MLS kinds a leaf of the calling device.
    pub async fn seat(&mut self, author: &Author, with_leaf: bool) -> Result<Seat, Error> {
        let leaf = (author.did.clone(), author.device.clone());
        let roster = self.roster().await?;
        let Some(role) = roster.seats.get(&author.did).map(|seat| seat.role.clone()) else {
            let was_seated = store::was_seated(self.tx.conn(), self.row.id, author.account_id).await?;
            return Err(no_seat(was_seated).into());
        };
        if with_leaf && !role.is_known() {
            return Err(role_unknown().into());
        }
        if with_leaf && !roster.leaves.contains_key(&leaf) {
            return Err(device_not_in_group().into());
        }
        Ok(Seat { author: Some(author.clone()), role })
    }

    /// An account with a seat, of which its server says something that no device of it does.
    pub async fn on_behalf(&mut self, account: &Did) -> Result<Seat, Error> {
        let role = self.roster().await?.seats.get(account).map(|seat| seat.role.clone());
        role.map(|role| Seat { author: None, role }).ok_or_else(|| no_seat(true).into())
    }

    /// The creator of a stream that this transaction creates.
    pub fn founder(&self, author: &Author) -> Result<Seat, Error> {
        let founding = self.row.head_seq == Seq(0);
        if founding {
            Ok(Seat { author: Some(author.clone()), role: super::body::Role::Admin })
        } else {
            Err(no_seat(true).into())
        }
    }

    /// The server writing to an account stream, which only the server does.
    pub fn server(&self) -> Result<Seat, Error> {
        if self.row.kind == StreamKind::Account { Ok(Seat::server()) } else { Err(no_seat(true).into()) }
    }

    /// The first answer of a call that already happened.
    pub async fn repeated(&mut self, identity: &CallIdentity) -> Result<Option<store::Accepted>, Error> {
        Ok(match store::find_accepted(self.tx.conn(), self.row.id, identity.idem).await? {
            Some(accepted) => Some(accepted.answer_to(identity)?),
            None => None,
        })
    }

    /// Appends one entry, and writes the seats that follow from it.
    pub async fn append(&mut self, by: &Seat, draft: Draft) -> Result<Sealed, Error> {
        let author = by.author.as_ref();
        let content = Content::new(draft.body, author.map(|author| (author.did.clone(), author.device.clone())));
        self.insert(author, &content, draft.kind, None, draft.epoch, draft.identity).await
    }

    /// Appends a message that the writer has authorized. Its content names no author: the home knows the sender, other
    /// servers need not.
    pub(super) async fn append_judged(&mut self, item: &Application) -> Result<Sealed, Error> {
        let content = Content::new(item.body.clone(), None);
        self.insert(Some(&item.author), &content, EntryKind::Message, None, Some(item.epoch), Some(item.identity)).await
    }

    async fn insert(
        &mut self,
        author: Option<&Author>,
        content: &Content,
        kind: EntryKind,
        requires: Option<&str>,
        epoch: Option<Epoch>,
        identity: Option<CallIdentity>,
    ) -> Result<Sealed, Error> {
        if self.row.incarnation != self.log.inner.incarnation {
            self.reopen().await?;
        }
        self.write(author, content, kind, requires, epoch, identity).await
    }

    async fn write(
        &mut self,
        author: Option<&Author>,
        content: &Content,
        kind: EntryKind,
        requires: Option<&str>,
        epoch: Option<Epoch>,
        identity: Option<CallIdentity>,
    ) -> Result<Sealed, Error> {
        if self.index >= ENTRIES_PER_TRANSACTION {
            return Err(Error::TooManyEntries);
        }
        self.followers_know(kind, requires).await?;
        let now = self.log.entry_time();
        let sealed = self.head.seal_named(kind.name(), requires, epoch, content, now)?;
        if let Some(feature) = requires {
            require(&mut self.row, feature)?;
            self.rules_changed = true;
        }
        let pos = self.first_pos + self.index;
        store::insert_entry(self.tx.conn(), self.row.id, pos, kind, epoch, &sealed, author, identity).await?;
        self.index += 1;
        self.appended.push(kind);
        if kind == EntryKind::Erased {
            let body = ErasedBody::decode(&content.body)?;
            store::erase(self.tx.conn(), self.row.id, &body.seqs).await?;
        }
        if kind.changes_seats() {
            self.roster().await?;
            let changes = match &mut self.roster {
                Some(roster) => roster.apply(&kind.into(), sealed.seq, content)?,
                None => Vec::new(),
            };
            if Keep::of(kind) == Keep::Handshakes && changes.is_empty() {
                store::insert_ageing(self.tx.conn(), self.row.id, sealed.seq, sealed.time).await?;
            }
            self.write_seats(&changes).await?;
        }
        Ok(sealed)
    }

    async fn write_seats(&mut self, changes: &[SeatChange]) -> Result<(), Error> {
        if !changes.is_empty() {
            self.rules_changed = true;
            store::write_seats(self.tx.conn(), self.row.id, changes).await?;
        }
        Ok(())
    }

    /// Moves the group to its next epoch. Messages of epochs before `floor` are refused from here on.
    pub fn set_epoch(&mut self, epoch: Epoch, floor: Epoch) {
        (self.row.epoch, self.row.epoch_floor) = (epoch, floor);
        self.rules_changed = true;
    }

    /// Makes it durable, then wakes the readers.
    pub async fn commit(mut self) -> Result<(), Error> {
        if self.index > 0 {
            let head_pos = self.first_pos + self.index - 1;
            store::update_head(self.tx.conn(), &self.row, &self.head, head_pos, self.rules_changed).await?;
            self.tx.commit().await?;
            if self.row.home != self.log.inner.home.as_str() {
                self.log.inner.streams.invalidate(self.row.public_id.as_str());
            }
            for kind in &self.appended {
                metrics::counter!(metric_name::LOG_ENTRIES, "kind" => kind.name()).increment(1);
            }
            self.log.inner.hub.wake(head_pos);
            if self.wakes_courier {
                self.log.inner.courier_wake.notify_one();
            }
        } else {
            self.tx.commit().await?;
        }
        Ok(())
    }

    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.tx.rollback().await?)
    }
}
