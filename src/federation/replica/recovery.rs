//! Putting back what a restore took, from those who hold it.
//!
//! Invariants: nothing is ordered in a stream that recovers; what is put back is under this server's own signature, byte
//! for byte; the stream goes on once every server that may hold some of it has answered, or the wait is over, and then
//! under a new term that says from where.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt;

use super::evidence::Claim;
use super::home::Witnessed;
use super::{Replicas, store};
use crate::federation::CallError;
use crate::identity::Signed;
use crate::lexicon::peer::get_entries::{GetEntries, Params};
use crate::log::chain::{Checkpoint, Header, entry_hash};
use crate::log::fork::lead_back;
use crate::log::{Adopted, Error, Held, Span, StreamRow, StreamState};
use crate::storage::{self, Storage};
use crate::types::{Bytes, Did, Refusal, Seq, StreamId, Term, UnixMillis};

/// Streams looked at in one pass.
const BATCH: i64 = 32;
/// Streams that recover concurrently.
const AT_ONCE: usize = 8;
/// Entries and bytes of one request: as JSON they must fit into an answer.
const ENTRIES: u64 = 256;
const BYTES: u64 = 4 << 20;

/// A home's answer to its own checkpoint that a peer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The home has the entry.
    Known,
    /// The home lacks the entry, and asks its followers for it.
    Recovering,
    /// The home went on without the entry.
    Lost,
}

impl Shown {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Recovering => "recovering",
            Self::Lost => "lost",
        }
    }
}

/// Streams of ours that wait for followers after a restore, all or one, go on without those that did not answer: with the
/// next look of whoever serves them. Which they are.
pub async fn go_on(
    storage: &Storage,
    stream: Option<&StreamId>,
    now: UnixMillis,
) -> Result<Vec<String>, storage::Error> {
    store::end_waits(storage.pool(), stream, now).await
}

impl Replicas {
    /// A peer shows a checkpoint of ours.
    pub async fn shown(&self, peer: &Did, stream: &str, signed: &Signed) -> Result<Shown, Error> {
        let info = self.log().find_stream(stream).await?.ok_or_else(super::stream_not_found)?;
        store::seated(self.storage().pool(), info.id, peer).await?.ok_or_else(super::stream_not_found)?;
        let row = self.log().row(info.id).await?;
        self.orders(&row)?;
        let us = self.log().home().clone();
        let checkpoint = self.checkpoint_by(&us, &row.public_id, signed).await?;
        let held = self.log().head_at(row.id, checkpoint.seq).await?;
        if held.is_some_and(|held| held.hash == checkpoint.hash()) {
            return Ok(Shown::Known);
        }
        if row.state == StreamState::Recovering {
            return Ok(Shown::Recovering);
        }
        let ahead = (checkpoint.term, checkpoint.seq) > (row.term, row.head_seq);
        if ahead && !store::is_lost(self.storage().pool(), row.id, checkpoint.term, checkpoint.seq).await? {
            self.begin_recovery(&row).await?;
            return Ok(Shown::Recovering);
        }
        tracing::error!(
            peer = peer.as_str(),
            stream.id = stream,
            seq = checkpoint.seq.0,
            "a server holds what this one signed and does not have: a restore took it"
        );
        Ok(Shown::Lost)
    }

    /// A follower says that it holds more than there is here: whether it does is shown by our own signature.
    pub(super) async fn suspect(&self, stream_id: i64, server: &Did) -> Result<(), Error> {
        let row = self.log().row(stream_id).await?;
        let Ok(Some(newest)) = self.ask(server, row.public_id.as_str(), None).await else { return Ok(()) };
        self.shown(server, row.public_id.as_str(), &newest.checkpoint).await?;
        Ok(())
    }

    async fn begin_recovery(&self, row: &StreamRow) -> Result<(), Error> {
        tracing::error!(
            stream.id = row.public_id.as_str(),
            "entries of this stream were lost: it stops, and asks for them"
        );
        store::put_recovery(self.storage().pool(), row.id, self.clock().now()).await?;
        match self.log().begin_recovery(row.id).await {
            Ok(()) | Err(Error::Halted(StreamState::Recovering)) => {}
            Err(error) => return Err(error),
        }
        self.inner.watch.notify_one();
        Ok(())
    }

    /// Goes on with the recoveries that are due, a batch of them. After a full batch the monitor looks again at once.
    pub(super) async fn recover_due(&self) -> Result<(), Error> {
        let due = store::due_recoveries(self.storage().pool(), self.clock().now(), BATCH).await?;
        let is_full = i64::try_from(due.len()) == Ok(BATCH);
        let steps = due.into_iter().map(|(stream_id, begun_at)| self.recover_one(stream_id, begun_at));
        let mut steps = futures_util::stream::iter(steps).buffer_unordered(AT_ONCE);
        while let Some(step) = steps.next().await {
            step?;
        }
        if is_full {
            self.inner.watch.notify_one();
        }
        Ok(())
    }

    async fn recover_one(&self, stream_id: i64, begun_at: UnixMillis) -> Result<(), Error> {
        let (pool, timing) = (self.storage().pool(), self.inner.timing);
        let waited_ms = self.clock().now().0 - begun_at.0;
        let over = waited_ms >= i64::try_from(timing.recovery_wait.as_millis()).unwrap_or(i64::MAX);
        match self.recover(stream_id, over).await {
            Ok(true) => return Ok(store::end_recovery(pool, stream_id).await?),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a stream could not be recovered yet");
            }
        }
        Ok(store::put_off_recovery(pool, stream_id, timing.look_every, self.clock().now()).await?)
    }

    /// Whether the stream goes on. `over`: without the followers that did not answer.
    async fn recover(&self, stream_id: i64, over: bool) -> Result<bool, Error> {
        let row = self.log().row(stream_id).await?;
        if row.state != StreamState::Recovering {
            return Ok(true);
        }
        let mut all_answered = true;
        let mut holding: BTreeMap<(Term, Seq), Vec<Did>> = BTreeMap::new();
        for server in store::holders(self.storage().pool(), stream_id, self.log().home()).await? {
            let Ok(server) = Did::parse(&server) else { continue };
            if self.inner.silent.contains_key(server.as_str()) {
                all_answered = false;
                continue;
            }
            match self.newest_of(&row, &server).await {
                Ok(Some(at)) => holding.entry(at).or_default().push(server),
                Ok(None) => {}
                Err(error) => {
                    // A call that was not sent costs no time: the client knows which servers it cannot reach.
                    if matches!(error, CallError::NoAnswer) {
                        self.inner.silent.insert(server.as_str().to_owned(), ());
                    }
                    tracing::info!(peer = server.as_str(), %error, "a follower did not say what it holds");
                    all_answered = false;
                }
            }
        }
        // The follower that holds the most comes first; the others may hold contents that it lacks.
        let others: Vec<Did> = holding.values().rev().flatten().cloned().collect();
        for ((_, seq), servers) in holding.iter().rev() {
            if let (Some(server), true) = (servers.first(), *seq > row.head_seq) {
                all_answered &= self.fetch(stream_id, server, &others).await?;
            }
        }
        if !self.is_ours(&self.log().row(stream_id).await?.home) {
            // Among what was lost is that the stream went to another home.
            self.remember_move(stream_id).await?;
            return Ok(true);
        }
        if !all_answered && !over {
            return Ok(false);
        }
        let base = self.log().row(stream_id).await?.head_seq;
        let collided = |error: &Error| error.is_collision();
        match crate::storage::retrying(collided, || self.go_on(stream_id)).await {
            Ok(()) => {}
            // Another replica of this server was quicker.
            Err(Error::Halted(_)) => return Ok(true),
            Err(error) => return Err(error),
        }
        // A server that holds entries of the stream followed it, whether this database remembers that or not.
        for ((_, seq), servers) in &holding {
            for server in servers {
                let held = (*seq).min(base);
                store::recall_follower(self.storage().pool(), stream_id, server, held, self.clock().now()).await?;
            }
        }
        let row = self.log().row(stream_id).await?;
        tracing::warn!(
            stream.id = row.public_id.as_str(),
            seq = row.head_seq.0,
            all_answered,
            "a stream goes on after a restore"
        );
        self.inner.wake.notify_one();
        Ok(true)
    }

    async fn go_on(&self, stream_id: i64) -> Result<(), Error> {
        // One that went here, and was forgotten, is a replica until now.
        let came = store::find_replica(self.storage().pool(), stream_id).await?.is_some();
        let arrival = if came { Some(self.arrival(stream_id).await?) } else { None };
        let mut tx = self.log().going_on(stream_id).await?;
        if let Some(arrival) = &arrival {
            self.settle(&mut tx, arrival).await?;
        }
        tx.commit().await
    }

    /// Where a server's newest checkpoint of ours stands.
    async fn newest_of(&self, row: &StreamRow, server: &Did) -> Result<Option<(Term, Seq)>, CallError> {
        let stream = row.public_id.as_str();
        let Some(mut newest) = self.ask(server, stream, None).await? else { return Ok(None) };
        let us = self.log().home().clone();
        if Checkpoint::of(&newest.checkpoint).is_ok_and(|checkpoint| checkpoint.home != us.as_str()) {
            // Another home orders it now, and holds the last that we signed.
            let Some(ours) = self.ask(server, stream, Some(row.head_seq.next())).await? else { return Ok(None) };
            newest = ours;
        }
        Ok(match self.checkpoint_by(&us, &row.public_id, &newest.checkpoint).await {
            Ok(checkpoint) => Some((checkpoint.term, checkpoint.seq)),
            // It shows what we never signed.
            Err(_) => None,
        })
    }

    /// Puts back what one server holds beyond our head, under one checkpoint after the other. Whether all of it came.
    async fn fetch(&self, stream_id: i64, server: &Did, others: &[Did]) -> Result<bool, Error> {
        loop {
            let row = self.log().row(stream_id).await?;
            let asked = self.ask(server, row.public_id.as_str(), Some(row.head_seq.next())).await;
            let Ok(Some(shown)) = asked else { return Ok(asked.is_ok()) };
            let Some(next) = self.next_header(&row, server).await else { return Ok(false) };
            let Some(claim) = self.ours(&row, next, shown).await? else { return Ok(true) };
            if !self.put_back(&row, &claim, server, others).await? {
                return Ok(false);
            }
            if !self.is_ours(&self.log().row(stream_id).await?.home) {
                return Ok(true);
            }
        }
    }

    /// Asks a server for the header of the entry after our head.
    async fn next_header(&self, row: &StreamRow, server: &Did) -> Option<Bytes> {
        let (from, stream) = (row.head_seq.0 + 1, row.public_id.to_string());
        let params = Params { stream, from, limit: 1, max_bytes: BYTES };
        let answer = self.federation().query::<GetEntries>(server, &params, None).await.ok()?;
        answer.entries.into_iter().next().map(|entry| entry.header)
    }

    /// What a server shows beyond our head, if it goes on from there under our own signature: `next` is the header after
    /// our head, and `shown` leads back to it.
    async fn ours(&self, row: &StreamRow, next: Bytes, shown: Witnessed) -> Result<Option<Claim>, Error> {
        let us = self.log().home().clone();
        let checkpoint = self.checkpoint_by(&us, &row.public_id, &shown.checkpoint).await?;
        let led = lead_back(&checkpoint, &shown.headers);
        let led = led.map_err(|why| Refusal::new("ChainBroken", why.to_string()))?;
        let follows = Header::decode(&next.0).is_ok_and(|header| header.prev() == row.head_hash);
        if led != (row.head_seq.next(), entry_hash(&next.0)) || !follows {
            tracing::error!(
                stream.id = row.public_id.as_str(),
                "a server holds another history under our own signature"
            );
            return Ok(None);
        }
        let headers = std::iter::once(next).chain(shown.headers).collect();
        Ok(Some(Claim { from: row.head_seq.next(), headers, signed: shown.checkpoint, checkpoint }))
    }

    async fn put_back(&self, row: &StreamRow, claim: &Claim, server: &Did, others: &[Did]) -> Result<bool, Error> {
        let genesis = store::genesis(self.storage().pool(), row.id).await?;
        let mut next = row.head_seq.next();
        while next <= claim.checkpoint.seq {
            let Some(mut entries) = self.entries_of(server, row, next, claim).await else { return Ok(false) };
            if entries.is_empty() {
                return Ok(false);
            }
            for other in others.iter().filter(|other| *other != server) {
                if entries.iter().all(|entry| entry.content.is_some()) {
                    break;
                }
                let further = self.entries_of(other, row, next, claim).await.unwrap_or_default();
                for (entry, other) in entries.iter_mut().zip(further) {
                    if entry.content.is_none() && fits(&entry.header, other.content.as_deref()) {
                        entry.content = other.content;
                    }
                }
            }
            let count = entries.len() as u64;
            let home = self.log().home().clone();
            let genesis = genesis.clone();
            let span = Span { home, genesis, anchor: None, entries, erased: BTreeSet::new(), checkpoint: None };
            match self.log().adopt(&span).await? {
                Adopted::Stored { .. } => next = Seq(next.0 + count),
                Adopted::Gap { .. } | Adopted::Conflict(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Entries as a server holds them, as far as their headers are those that were signed for.
    async fn entries_of(&self, server: &Did, row: &StreamRow, from: Seq, claim: &Claim) -> Option<Vec<Held>> {
        let params = Params { stream: row.public_id.to_string(), from: from.0, limit: ENTRIES, max_bytes: BYTES };
        let answer = self.federation().query::<GetEntries>(server, &params, None).await.ok()?;
        let skip = usize::try_from(from.0 - claim.from.0).ok()?;
        let signed = claim.headers.iter().skip(skip);
        let held = answer.entries.into_iter().zip(signed).take_while(|(entry, header)| entry.header == **header);
        Some(
            held.map(|(entry, _)| Held { header: entry.header.0, content: entry.content.map(|Bytes(bytes)| bytes) })
                .collect(),
        )
    }
}

/// Whether a content is the one that a header names.
pub(super) fn fits(header: &[u8], content: Option<&[u8]>) -> bool {
    content.is_some_and(|content| {
        let hash = crate::types::Hash::labelled(crate::log::chain::CONTENT_LABEL, content);
        Header::decode(header).is_ok_and(|header| header.content() == hash)
    })
}
