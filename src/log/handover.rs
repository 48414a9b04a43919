//! The move of a stream from one home to another, as the log carries it out.
//!
//! Invariants: one commit is the move, and nothing changes before it; the home orders nothing between the acceptance
//! and that commit; the next home orders nothing before its own term is opened.

use super::acceptance::Acceptance;
use super::append::later;
use super::body::{Body, HomeChangedBody, HomeOpenedBody};
use super::chain::Content;
use super::identity::{Author, CallIdentity};
use super::replica::ReplicaTx;
use super::seats::{Roster, SeatChange};
use super::{Draft, EntryKind, Error, Head, Log, Sealed, StreamState, StreamTx, store};
use crate::identity::Signed;
use crate::types::{Bytes, Refusal, Seq};

/// The content of the last entry of a term, and the caller that asked for the move.
pub struct Handover<'a> {
    /// At which the next home accepted.
    pub head: &'a Head,
    pub acceptance: &'a Acceptance,
    pub signed: Signed,
    pub author: &'a Author,
    pub identity: CallIdentity,
}

impl Log {
    /// Begins a transaction in which one of our streams stops, so that another server can take it over as it stands.
    pub async fn handing(&self, stream_id: i64) -> Result<ReplicaTx, Error> {
        let row = self.row(stream_id).await?;
        if row.home == self.inner.home.as_str() && row.incarnation != self.inner.incarnation {
            // What is handed over is of this life.
            let mut tx = self.lock(stream_id).await?;
            tx.reopen().await?;
            tx.commit().await?;
        }
        let Some(tx) = self.turning(stream_id, StreamState::Handing).await? else {
            return Err(Error::Halted(self.row(stream_id).await?.state));
        };
        if tx.row().home == self.inner.home.as_str() { Ok(tx) } else { Err(not_ours()) }
    }

    /// Begins a transaction in which one of our streams goes on after all; nothing if it does not wait for a next home.
    pub async fn keeping(&self, stream_id: i64) -> Result<Option<ReplicaTx>, Error> {
        let Some(mut tx) = self.turning(stream_id, StreamState::Active).await? else { return Ok(None) };
        let (row, us) = (tx.row().clone(), self.inner.home.as_str());
        let came_here = store::find_move(tx.conn(), stream_id, row.head_seq).await?.is_some();
        Ok((row.state == StreamState::Handing && row.home == us && !came_here).then_some(tx))
    }

    /// Appends the last entry of our term, which is the move, in a transaction that the caller commits. `Halted` where
    /// the stream does not stand any more where the next home accepted it, or it is too late.
    pub async fn change_home(&self, stream_id: i64, handover: Handover<'_>) -> Result<(StreamTx, Sealed), Error> {
        let mut won = self.win(stream_id).await?;
        let Head { term, seq, hash, .. } = won.row.head();
        let same = (term, seq, hash) == (handover.head.term, handover.head.seq, handover.head.hash);
        let in_time = self.inner.clock.now() <= handover.acceptance.not_after;
        if won.row.state != StreamState::Handing || !same || !in_time {
            return Err(Error::Halted(StreamState::Handing));
        }
        store::set_state(won.tx.conn(), stream_id, StreamState::Active).await?;
        won.row.state = StreamState::Active;
        let mut tx = self.open(won)?;
        let seat = tx.seat(handover.author, false).await?;
        let to = handover.acceptance.to.clone();
        let next = later(term, self.inner.clock.now_seconds());
        let body = HomeChangedBody { to: to.clone(), term: next, acceptance: handover.signed }.encode()?;
        let identity = Some(handover.identity);
        let sealed = tx.append(&seat, Draft { kind: EntryKind::HomeChanged, epoch: None, body, identity }).await?;
        tx.goes_to(&to);
        Ok((tx, sealed))
    }

    /// Begins our term of a stream that moved here, in a transaction that the caller commits.
    pub async fn open_reign(&self, stream_id: i64) -> Result<StreamTx, Error> {
        let mut won = self.win(stream_id).await?;
        if won.row.state != StreamState::Handing || won.row.home != self.inner.home.as_str() {
            return Err(Error::Halted(won.row.state));
        }
        store::set_state(won.tx.conn(), stream_id, StreamState::Active).await?;
        won.row.state = StreamState::Active;
        let mut tx = self.open(won)?;
        if tx.take_up().await? { Ok(tx) } else { Err(not_ours()) }
    }

    /// Seats and leaves of a stream that is held whole, as they follow from its entries. None: one is missing.
    pub async fn replayed(&self, stream_id: i64) -> Result<Option<Replayed>, Error> {
        let pool = self.inner.storage.pool();
        let (mut replayed, mut after) = (Replayed::default(), Seq(0));
        loop {
            let page = store::seat_entries(pool, stream_id, after, PAGE, PAGE_BYTES).await?;
            let Some(last) = page.last() else { return Ok(Some(replayed)) };
            after = last.seq;
            for entry in page {
                let Some(content) = entry.content else {
                    // A commit without content changed no seat, or it would be kept.
                    if entry.kind == EntryKind::Membership {
                        return Ok(None);
                    }
                    continue;
                };
                let changes = replayed.roster.apply(&entry.kind.into(), entry.seq, &Content::decode(&content)?)?;
                if !changes.is_empty() {
                    replayed.changes.push(changes);
                }
            }
        }
    }
}

/// Entries that one query reads, and bytes of their contents.
const PAGE: i64 = 500;
const PAGE_BYTES: i64 = 4 << 20;

/// The seats derived from a stream's entries.
#[derive(Debug, Default)]
pub struct Replayed {
    pub roster: Roster,
    /// The changes of seats, for each entry that changed any.
    changes: Vec<Vec<SeatChange>>,
}

fn not_ours() -> Error {
    Refusal::new("NotHome", "this server does not order the stream").into()
}

impl StreamTx {
    /// Writes all seats and leaves again, including ended ones: what a replica knew of them began with its first entry.
    /// Which are held does not follow from entries, and stays.
    pub async fn reseat(&mut self, replayed: &Replayed) -> Result<(), Error> {
        let (stream_id, now) = (self.row().id, self.now());
        let held = store::delete_seats(self.conn(), stream_id).await?;
        store::know_members(self.conn(), &replayed.changes, now).await?;
        for changes in &replayed.changes {
            store::write_seats(self.conn(), stream_id, changes).await?;
        }
        store::hold_seats(self.conn(), stream_id, held).await
    }

    /// Opens the term of a stream that was handed to us with the entry before. False: it was not.
    pub(super) async fn take_up(&mut self) -> Result<bool, Error> {
        self.begin_writes().await?;
        let (stream_id, head) = (self.row().id, self.head().clone());
        let Some(moved) = store::find_move(self.conn(), stream_id, head.seq).await? else { return Ok(false) };
        let body = HomeOpenedBody { from: moved.from, base: head.seq, base_hash: Bytes(head.hash.to_vec()) };
        let term = moved.term.max(later(head.term, self.now().0 / 1000));
        self.open_term(term, EntryKind::HomeOpened, body.encode()?).await?;
        Ok(true)
    }
}
