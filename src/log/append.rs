//! The transaction path: a method changes its own tables and appends to one stream, in one commit.
//!
//! Invariant: the advisory lock is taken first, everything that is judged is read second, the row lock third; then the
//! transaction's id is compared with the stream's head before anything is written, so that positions rise with `seq`.

mod locking;
mod many;
mod members;
mod refusals;
mod requires;
mod terms;

use super::body::{Body, ErasedBody};
use super::chain::{CONTENT_BYTES, Content, Genesis, Head, Sealed};
use super::identity::{Author, CallIdentity};
use super::retention::Keep;
use super::seats::{Roster, SeatChange};
use super::store::{self, StreamRow};
use super::{EntryKind, Error, Log, StreamKind};
use crate::storage::Tx;
use crate::telemetry::metric_name;
use crate::types::{Did, Epoch, Hash, Seq, StreamId, UnixMillis};

pub(super) use locking::Turns;
pub use refusals::{device_not_in_group, stream_not_found};
pub(super) use refusals::{no_seat, role_unknown};
pub(super) use requires::require;
pub(super) use terms::later;

/// Positions of one transaction: `base + (xid << 10) + index`.
pub(super) const ENTRIES_PER_TRANSACTION: i64 = 1024;
/// Entries of one span: one may go before them that opens a term.
pub(super) const DRAFTS_PER_TRANSACTION: usize = 1023;

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
    /// `base + (xid << 10)`: the first position of this transaction, once it writes.
    first_pos: Option<i64>,
    index: i64,
    roster: Option<Roster>,
    rules_changed: bool,
    /// Of headers and contents appended so far.
    added_bytes: usize,
    /// Kinds appended so far, to be counted once they are durable.
    appended: Vec<EntryKind>,
    pub(super) wakes_courier: bool,
    pub(super) wakes_erasure: bool,
}

impl Log {
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
        self.ensure_partitions_in(tx.conn()).await?;
        let row = store::insert_stream(tx.conn(), &head, kind, home, incarnation, &bytes).await?;
        let first_pos = self.first_position(&mut tx).await?;
        let mut tx = StreamTx::new(self, tx, row, Some(first_pos));
        (tx.head, tx.roster, tx.rules_changed) = (head, Some(Roster::default()), true);
        tx.append(&Seat::server(), Draft { kind: EntryKind::Opened, epoch: None, body: bytes, identity: None }).await?;
        Ok(tx)
    }
}

impl Seat {
    /// An account that left, whose own messages are erased on its behalf.
    pub(super) fn of_former_member(author: &Author) -> Self {
        Self { author: Some(author.clone()), role: super::body::Role::Member }
    }

    /// The server itself: device chains, courier, the first entry.
    fn server() -> Self {
        Self { author: None, role: super::body::Role::Member }
    }
}

impl StreamTx {
    fn new(log: &Log, tx: Tx, row: StreamRow, first_pos: Option<i64>) -> Self {
        Self {
            tx,
            log: log.clone(),
            head: row.head(),
            row,
            first_pos,
            index: 0,
            roster: None,
            rules_changed: false,
            added_bytes: 0,
            appended: Vec::new(),
            wakes_courier: false,
            wakes_erasure: false,
        }
    }

    /// For reading, and after [`Self::begin_writes`] for the method's own tables.
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

    /// The right to act in this stream: a device and an account that stand, an open seat, and for MLS kinds a leaf of the
    /// calling device.
    pub async fn seat(&mut self, author: &Author, with_leaf: bool) -> Result<Seat, Error> {
        store::author_state(self.tx.conn(), author.device_row).await?.judge()?;
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
    pub async fn founder(&mut self, author: &Author) -> Result<Seat, Error> {
        store::author_state(self.tx.conn(), author.device_row).await?.judge()?;
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
        Ok(match store::find_accepted(self.tx.conn(), self.row.id, identity.idem, self.log.clock().now()).await? {
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

    /// Ready to append: the row is locked, and its term is of this incarnation. Answers the transaction's first position.
    async fn writing(&mut self) -> Result<i64, Error> {
        self.begin_writes().await?;
        if self.row.incarnation != self.log.inner.incarnation {
            self.reopen().await?;
        }
        self.first_pos.ok_or(Error::Overtaken)
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
        self.followers_know(kind, requires).await?;
        self.writing().await?;
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
        let first_pos = self.first_pos.ok_or(Error::Overtaken)?;
        let now = self.log.entry_time();
        let sealed = self.head.seal_named(kind.name(), requires, epoch, content, now)?;
        if sealed.content.len() > CONTENT_BYTES {
            return Err(Error::ContentTooLarge { bytes: sealed.content.len() });
        }
        self.judge_quota(kind, sealed.size_bytes())?;
        if let Some(feature) = requires {
            require(&mut self.row, feature)?;
            self.rules_changed = true;
        }
        self.added_bytes += sealed.size_bytes();
        let pos = first_pos + self.index;
        let at = self.log.partitions_now();
        store::insert_entry(self.tx.conn(), self.row.id, pos, at, kind, epoch, &sealed, author, identity).await?;
        self.index += 1;
        self.appended.push(kind);
        if kind == EntryKind::Erased {
            let body = ErasedBody::decode(&content.body)?;
            store::erase(self.tx.conn(), self.row.id, &body.seqs).await?;
        }
        if kind.changes_seats() {
            // Read before the writes begin, wherever a right was judged.
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

    /// Whether the conversation is full. Whatever ends seats, erases or moves is taken in any case.
    fn judge_quota(&self, kind: EntryKind, bytes: usize) -> Result<(), Error> {
        let quota = match kind {
            EntryKind::Message => self.log.convo_quota(),
            EntryKind::Commit => self.log.convo_quota().with_slack(),
            _ => return Ok(()),
        };
        let held = u64::try_from(self.row.held_bytes).unwrap_or_default().saturating_add(self.added_bytes as u64);
        Ok(quota.judge(held, self.head.seq.0.saturating_sub(1), bytes)?)
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
        if let Some(first_pos) = self.first_pos.filter(|_| self.index > 0) {
            let head_pos = first_pos + self.index - 1;
            let (rules_changed, added_bytes) = (self.rules_changed, self.added_bytes);
            store::update_head(self.tx.conn(), &self.row, &self.head, head_pos, rules_changed, added_bytes).await?;
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
            if self.wakes_erasure {
                self.log.inner.erasure_wake.notify_one();
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
