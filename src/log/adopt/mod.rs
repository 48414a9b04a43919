//! Adoption: verifies and stores an order that another server made, for followers and for recovery.
//!
//! Invariants: a span is stored whole or not at all, byte for byte and in the order in which the home made it; where
//! two servers hold different entries at one seq, the difference is kept as evidence and replaces nothing. The stream's
//! row, read under its lock, decides whether adoption is legal: the server adopts entries of its own stream only while
//! that recovers. After an entry that requires a feature which this version lacks, the server adopts nothing until a
//! version that knows the feature has applied the entry.
//!
//! The caller has already checked who may show a span, and under which signature.

mod before;
mod unapplied;
mod verify;

use std::collections::BTreeSet;

use super::append::{DRAFTS_PER_TRANSACTION, require};
use super::body::{Body, CommitBody, ErasedBody};
use super::chain::Head;
use super::retention::Keep;
use super::seats::{Roster, SeatChange};
use super::store::{self, StreamRow};
use super::{EntryKind, Error, Log, StreamState};
use crate::identity::Signed;
use crate::storage;
use crate::telemetry::metric_name;
use crate::types::{Detail, Did, Refusal, Seq, UnixMillis};

pub(super) use unapplied::run as apply_newest_of_all;
pub use verify::Held;
pub(super) use verify::{Entry, Move, handed};
use verify::{Verified, malformed};

/// No home keeps contents for less than a day.
const SHORTEST_TERM_MS: i64 = 24 * 60 * 60 * 1000;

/// Consecutive entries of one stream, as its home made them.
#[derive(Clone, Debug)]
pub struct Span {
    /// The stream's home, by the lineage that the caller has verified.
    pub home: Did,
    pub genesis: Vec<u8>,
    /// What stands before the first entry, by a checkpoint of the home: where a follower begins that may not see what
    /// was before. None: it begins with the stream's first entry, or goes on from what is held.
    pub anchor: Option<Head>,
    pub entries: Vec<Held>,
    /// Messages of which the caller has verified that an entry beyond the span takes their contents back.
    pub erased: BTreeSet<Seq>,
    /// The home's checkpoint at the last entry, verified by the caller: it is kept with them.
    pub checkpoint: Option<Signed>,
}

/// The outcome of a span.
#[derive(Clone, Debug, PartialEq)]
pub enum Adopted {
    /// All of it is held; `fresh` entries were not before.
    Stored { head: Head, fresh: u64 },
    /// Entries are missing between this head and the span.
    Gap { head: Head },
    /// The home made two different statements: nothing was stored.
    Conflict(Box<Conflict>),
}

/// Two headers for one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub seq: Seq,
    /// As it is stored here.
    pub held: Vec<u8>,
    /// As it was shown.
    pub shown: Vec<u8>,
}

impl Log {
    /// Stores what of the span is not held yet, with the seats that follow from it.
    pub async fn adopt(&self, span: &Span) -> Result<Adopted, Error> {
        if span.entries.len() > DRAFTS_PER_TRANSACTION {
            return Err(Error::TooManyEntries);
        }
        let verified = verify::verify(span, self.inner.clock.now())?;
        if verified.from_ahead > 0 {
            metrics::counter!(metric_name::ENTRIES_FROM_AHEAD).increment(verified.from_ahead);
            tracing::warn!(
                stream.id = verified.stream.as_str(),
                entries = verified.from_ahead,
                "the home of this stream dates entries more than five minutes ahead"
            );
        }
        storage::retrying(Error::is_collision, || self.adopt_once(span, &verified)).await
    }

    /// Stops ordering one of our own streams, so that entries that were lost can be put back.
    pub async fn begin_recovery(&self, stream_id: i64) -> Result<(), Error> {
        self.set_state(stream_id, StreamState::Recovering).await
    }

    /// Orders it again: the next entry opens a new term.
    pub async fn end_recovery(&self, stream_id: i64) -> Result<(), Error> {
        self.set_state(stream_id, StreamState::Active).await
    }

    async fn set_state(&self, stream_id: i64, state: StreamState) -> Result<(), Error> {
        let mut won = self.win(stream_id).await?;
        if !won.row.state.may_become(state) {
            return Err(Error::Halted(won.row.state));
        }
        store::set_state(won.tx.conn(), stream_id, state).await?;
        Ok(won.tx.commit().await?)
    }

    async fn adopt_once(&self, span: &Span, verified: &Verified<'_>) -> Result<Adopted, Error> {
        let (mut tx, mut row, first_pos) = self.turn_or_found(span, verified).await?;
        let ours = row.home == self.inner.home.as_str();
        if ours && row.state != StreamState::Recovering {
            return Err(Refusal::new("NotHome", "this server orders the stream itself").into());
        }
        if !ours && row.state != StreamState::Active {
            return Err(Error::Halted(row.state));
        }
        let overlap = verified.entries.iter().take_while(|entry| entry.header.seq <= row.head_seq).count();
        let (held, fresh) = verified.entries.split_at(overlap);
        if let Some(conflict) = conflict(&mut tx, &row, held).await? {
            return Ok(Adopted::Conflict(Box::new(conflict)));
        }
        let mut head = row.head();
        let Some(first) = fresh.first() else { return Ok(Adopted::Stored { head, fresh: 0 }) };
        if first.header.seq != head.seq.next() {
            return Ok(Adopted::Gap { head });
        }
        let moved = store::find_move(tx.conn(), row.id, head.seq).await?;
        verify::follows(first, &head, moved.as_ref())?;
        let read = row.clone();
        let home = home_after(&row.home, fresh, &span.home)?;
        // Entries after one that this version cannot apply wait for a version that can.
        let needs_newer = fresh.iter().position(Entry::needs_newer_version);
        let (fresh, is_whole) = match needs_newer {
            Some(at) => (&fresh[..=at], at + 1 == fresh.len()),
            None => (fresh, true),
        };
        row.home = if is_whole { home } else { last_home(&row.home, fresh)? };
        for feature in fresh.iter().filter_map(|entry| entry.header.requires.as_deref()) {
            require(&mut row, feature)?;
        }
        row.is_unapplied = needs_newer.is_some();
        let state = self.state_after(&row, ours, fresh);

        let mut roster = store::roster(tx.conn(), row.id).await?;
        // Entries recovered after a restore are all that any server still has.
        let (server, now) = (&self.inner.home, self.inner.clock.now());
        let reader = (!ours).then_some(Reader { server, now, erased: &span.erased });
        let unapplied = usize::from(row.is_unapplied);
        let replayed = replay(&mut roster, &mut row, fresh, unapplied, reader)?;
        // Everything is judged: what follows only writes.
        let first_pos = match first_pos {
            Some(first_pos) => first_pos,
            None => {
                let (locked, first_pos) = self.begin_writes_at(&mut tx, &read).await?;
                if locked.head_seq != read.head_seq {
                    return Err(Error::Overtaken);
                }
                first_pos
            }
        };
        let at = self.partitions_now();
        let weeks: Vec<_> = fresh.iter().map(|entry| Some(at.week_of(Keep::of_named(&entry.kind)))).collect();
        store::adopt_entries(tx.conn(), row.id, first_pos, fresh, &weeks).await?;
        if let (Some(signed), Some(last), true) = (&span.checkpoint, fresh.last(), is_whole) {
            store::keep_checkpoint(tx.conn(), row.id, &last.head(), signed).await?;
        }
        self.write_replayed(&mut tx, row.id, &replayed, !ours).await?;
        let head_pos = first_pos + i64::try_from(fresh.len()).unwrap_or(i64::MAX) - 1;
        if let Some(last) = fresh.last() {
            head = last.head();
        }
        let bytes = fresh.iter().map(Entry::size_bytes).sum();
        store::update_head(tx.conn(), &row, &head, head_pos, true, bytes).await?;
        if let Some(state) = state {
            store::set_state(tx.conn(), row.id, state).await?;
        }
        tx.commit().await?;
        self.inner.streams.invalidate(row.public_id.as_str());
        self.inner.hub.wake(head_pos);
        Ok(Adopted::Stored { head, fresh: fresh.len() as u64 })
    }

    /// What the row becomes where these entries bring the stream here, or take it away. Nobody orders in it before its
    /// new term is opened; where we may have opened it already and forgotten, others are asked first.
    fn state_after(&self, row: &StreamRow, was_ours: bool, entries: &[Entry<'_>]) -> Option<StreamState> {
        let is_ours = row.home == self.inner.home.as_str();
        let ends_with_it = entries.last().is_some_and(|entry| entry.moves.is_some());
        match (was_ours, is_ours) {
            (false, true) if ends_with_it && row.incarnation == self.inner.incarnation => Some(StreamState::Handing),
            (false, true) => Some(StreamState::Recovering),
            (true, false) => Some(StreamState::Active),
            _ => None,
        }
    }

    /// The stream's row under its advisory lock, to be read; or made now if this is the first that is heard of the
    /// stream, with the transaction's first position.
    async fn turn_or_found(
        &self,
        span: &Span,
        verified: &Verified<'_>,
    ) -> Result<(storage::Tx, StreamRow, Option<i64>), Error> {
        if let Some(stream_id) = store::find_stream_id(self.inner.storage.pool(), &verified.stream).await? {
            let mut tx = self.turn(stream_id).await?;
            let mut row = store::stream_of(tx.conn(), stream_id).await?;
            if row.is_unapplied && row.state != StreamState::NeedsNewerVersion {
                // Seats follow from the newest entry before anything comes after that entry: a transaction of its own.
                tx.rollback().await?;
                self.apply_newest_of(stream_id).await?;
                tx = self.turn(stream_id).await?;
                row = store::stream_of(tx.conn(), stream_id).await?;
            }
            return Ok((tx, row, None));
        }
        let mut tx = self.inner.storage.begin().await?;
        self.ensure_partitions_in(tx.conn()).await?;
        // With an anchor the homes before are in the lineage, which the caller has verified.
        let home = if span.anchor.is_some() { span.home.as_str() } else { &verified.genesis.home };
        let head = span.anchor.clone().unwrap_or_else(|| verified.start());
        let incarnation = self.inner.incarnation;
        let row = store::insert_stream(tx.conn(), &head, verified.kind, home, incarnation, &span.genesis).await;
        let row = row.map_err(|error| match error {
            // Another instance adopted it at the same moment.
            Error::Storage(storage::Error::Constraint { source, .. }) => storage::Error::Collision(source).into(),
            error => error,
        })?;
        let first_pos = self.first_position(&mut tx).await?;
        Ok((tx, row, Some(first_pos)))
    }
}

/// The first of these entries that is another one than the entry that is held at its number.
async fn conflict(tx: &mut storage::Tx, row: &StreamRow, shown: &[Entry<'_>]) -> Result<Option<Conflict>, Error> {
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return Ok(None) };
    let held = store::headers(tx.conn(), row.id, first.header.seq, last.header.seq).await?;
    let differs = |entry: &&Entry<'_>| held.get(&entry.header.seq).is_some_and(|header| header != entry.bytes);
    Ok(shown.iter().find(differs).map(|entry| Conflict {
        seq: entry.header.seq,
        held: held[&entry.header.seq].clone(),
        shown: entry.bytes.to_vec(),
    }))
}

/// The home after these entries. The caller verified which server ordered them.
fn home_after(before: &str, entries: &[Entry<'_>], verified: &Did) -> Result<String, Refusal> {
    let home = last_home(before, entries)?;
    if verified.as_str() != before && verified.as_str() != home {
        let detail = Detail::new("another server is the home of this stream").with("home", home);
        return Err(Refusal::new("NotHome", detail));
    }
    Ok(home)
}

/// The home to which the last move of these entries leads.
fn last_home(before: &str, entries: &[Entry<'_>]) -> Result<String, Refusal> {
    let mut home = before.to_owned();
    for moved in entries.iter().filter_map(|entry| entry.moves.as_ref()) {
        if home != moved.from.as_str() {
            return Err(Refusal::new("ChainBroken", "a move of another server than the stream's home"));
        }
        home = moved.to.to_string();
    }
    Ok(home)
}

struct Replayed {
    /// The changes of seats, for each entry that changed any.
    changes: Vec<Vec<SeatChange>>,
    /// Handshakes that changed no seat.
    ageing: Vec<(Seq, UnixMillis)>,
    /// The contents to erase.
    erased: Vec<Seq>,
}

/// A server that has a right to the contents that the seats of its accounts cover.
#[derive(Clone, Copy)]
struct Reader<'a> {
    server: &'a Did,
    now: UnixMillis,
    erased: &'a BTreeSet<Seq>,
}

impl Reader<'_> {
    /// Whether a home may leave this content out: no seat here covers it, it aged out there, or it was taken back.
    fn does_without(self, roster: &Roster, entry: &Entry<'_>) -> bool {
        // This version does not know how long the home keeps a kind of a later version.
        let may_age = entry.kind.known().is_none_or(|kind| Keep::of(kind) != Keep::Always);
        let aged = may_age && entry.header.time.0 < self.now.0 - SHORTEST_TERM_MS;
        let erased = entry.kind == EntryKind::Message && self.erased.contains(&entry.header.seq);
        aged || erased || !roster.seats.values().any(|seat| seat.server == self.server.as_str())
    }
}

/// Derives seats, leaves and epoch from the entries, as the home did when it ordered them. The last `unapplied` entries
/// are verified, and change none of these.
fn replay(
    roster: &mut Roster,
    row: &mut StreamRow,
    entries: &[Entry<'_>],
    unapplied: usize,
    reader: Option<Reader<'_>>,
) -> Result<Replayed, Refusal> {
    let mut replayed = Replayed { changes: Vec::new(), ageing: Vec::new(), erased: Vec::new() };
    let applied = entries.len().saturating_sub(unapplied);
    for entry in entries[..applied].iter().filter(|entry| entry.kind == EntryKind::Erased) {
        if let Some(content) = &entry.content {
            replayed.erased.extend(ErasedBody::decode(&content.body).map_err(malformed)?.seqs);
        }
    }
    for (place, entry) in entries.iter().enumerate() {
        let Some(content) = &entry.content else {
            let erased = entry.kind == EntryKind::Message && replayed.erased.contains(&entry.header.seq);
            if !erased && reader.is_some_and(|reader| !reader.does_without(roster, entry)) {
                return Err(Refusal::new("ContentMismatch", "a content is missing that a seat here covers"));
            }
            continue;
        };
        if place >= applied {
            continue;
        }
        let applied = roster.apply(&entry.kind, entry.header.seq, content);
        let changes = applied.map_err(malformed)?;
        if let (Some(EntryKind::Commit), Some(left)) = (entry.kind.known(), entry.header.epoch) {
            row.epoch = left.next();
            // Nothing from before a removal is accepted after it.
            let body = CommitBody::decode(&content.body).map_err(malformed)?;
            if !body.removes.is_empty() {
                row.epoch_floor = row.epoch;
            }
        }
        if !changes.is_empty() {
            replayed.changes.push(changes);
        } else if Keep::of_named(&entry.kind) == Keep::Handshakes {
            replayed.ageing.push((entry.header.seq, entry.header.time));
        }
    }
    Ok(replayed)
}
