//! The home's side of replication: where followers may begin, entries as made, and checkpoints for them.
//!
//! Invariants: for a server without a seat no stream exists; contents go where the server's seats cover them, headers
//! elsewhere; entries after the one that ended a server's last seat do not exist for that server.

use super::store::{self, Seated};
use super::{REQUEST_BYTES, REQUEST_ENTRIES, Replicas, View, stream_not_found};
use crate::identity::Signed;
use crate::lexicon::peer::defs::Support;
use crate::log::chain::{Checkpoint, Header};
use crate::log::lineage::LineageLink;
use crate::log::{EntryKind, Error, Head, RawEntry, StreamInfo, StreamRow};
use crate::types::{Bytes, Detail, Did, Hash, Refusal, Seq, Term};

/// A server that is to order a stream may fetch what it lacks for so long.
const PREPARES_MS: i64 = 24 * 60 * 60 * 1000;

/// The data that a follower begins with.
#[derive(Clone, Debug)]
pub struct Following {
    pub term: Term,
    pub genesis: Vec<u8>,
    pub lineage: Vec<LineageLink>,
    pub anchor: Option<Signed>,
    pub head: Signed,
}

/// Entries as made, from one number on.
#[derive(Clone, Debug)]
pub struct Entries {
    pub term: Term,
    pub from: Seq,
    pub prev: Hash,
    pub entries: Vec<RawEntry>,
    pub checkpoint: Option<Signed>,
    pub more: bool,
}

/// A checkpoint of the home, and the headers that lead to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Witnessed {
    pub checkpoint: Signed,
    pub headers: Vec<Bytes>,
}

impl Replicas {
    /// The stream, if the server has or had a seat in it.
    async fn seated(&self, peer: &Did, stream: &str) -> Result<(std::sync::Arc<StreamInfo>, Seated), Error> {
        let info = self.log().find_stream(stream).await?.ok_or_else(stream_not_found)?;
        let seated = store::seated(self.storage().pool(), info.id, peer).await?;
        Ok((info, seated.ok_or_else(stream_not_found)?))
    }

    /// Adds a follower, from `from` on or from where its first seat begins; `support` describes its version.
    pub async fn begin_following(
        &self,
        peer: &Did,
        stream: &str,
        from: Seq,
        support: Option<&Support>,
    ) -> Result<Following, Error> {
        let (info, seated) = self.seated(peer, stream).await?;
        let row = self.log().row(info.id).await?;
        self.orders(&row)?;
        if row.state.refuses().is_some() {
            return Err(Error::Halted(row.state));
        }
        // A server whose last seat ended learns of no entry after that, and of no term that began there.
        let head = match seated.until {
            Some(until) if from > until => return Err(stream_not_found()),
            Some(until) if until < row.head_seq => self.at(info.id, until).await?,
            _ => row.head(),
        };
        if head.term != row.term {
            return Err(stream_not_found());
        }
        let from = from.max(seated.from).min(head.seq.next());
        let anchor = match from.0.saturating_sub(1) {
            0 => None,
            before => Some(self.sign(&self.at(info.id, Seq(before)).await?)?),
        };
        let (genesis, changes) = self.log().lineage(info.id).await?;
        let lineage = self.links(info.id, changes).await?;
        let head = self.sign(&head)?;
        let mut tx = self.storage().begin().await?;
        self.heard_support(tx.conn(), peer, support).await?;
        store::put_follower(tx.conn(), info.id, peer, from, self.clock().now()).await?;
        tx.commit().await?;
        self.inner.wake.notify_one();
        Ok(Following { term: row.term, genesis, lineage, anchor, head })
    }

    /// The genesis of the stream, and the lineage up to the term in which that entry was ordered.
    pub async fn lineage_before(&self, stream_id: i64, seq: Seq) -> Result<(Vec<u8>, Vec<LineageLink>), Error> {
        let (genesis, mut changes) = self.log().lineage(stream_id).await?;
        changes.retain(|change| change.seq < seq);
        Ok((genesis, self.links(stream_id, changes).await?))
    }

    /// Entries that ended or opened terms, each with the checkpoint of the home that ordered it.
    pub(super) async fn links(&self, stream_id: i64, changes: Vec<RawEntry>) -> Result<Vec<LineageLink>, Error> {
        let headers: Vec<Header> =
            changes.iter().map(|change| Header::decode(&change.held.header)).collect::<Result<_, _>>()?;
        let kinds = headers.iter().map(|header| EntryKind::from_name(&header.kind));
        let ours_from = kinds.rev().position(|kind| kind == Some(EntryKind::HomeOpened));
        let before = ours_from.map_or(0, |behind| headers.len() - 1 - behind);
        let mut links = Vec::with_capacity(changes.len());
        for (index, (change, header)) in changes.into_iter().zip(headers).enumerate() {
            let Header { stream, term, seq, time, .. } = header;
            let checkpoint = if index >= before {
                self.sign(&Head { stream, term, seq, hash: change.hash, time })?
            } else {
                let held = self.log().find_checkpoint(stream_id, seq, Some(term)).await?;
                held.filter(|(at, _)| *at == seq).ok_or_else(not_here)?.1
            };
            let content = Bytes(change.held.content.unwrap_or_default());
            links.push(LineageLink { header: Bytes(change.held.header), content, checkpoint });
        }
        Ok(links)
    }

    /// The membership snapshot of a conversation of this home just before one of its entries, for an invited server.
    pub async fn view_before(&self, stream_id: i64, begins: Seq) -> Result<View, Error> {
        let before = store::before(self.storage().pool(), stream_id, begins).await?;
        let home = self.log().home();
        Ok(View::of(before.convo, &before.roster, |account| before.servers.get(account).unwrap_or(home).clone()))
    }

    /// Sends it no more.
    pub async fn end_following(&self, peer: &Did, stream: &str) -> Result<(), Error> {
        let (info, _) = self.seated(peer, stream).await?;
        self.orders(&self.log().row(info.id).await?)?;
        store::delete_follower(self.storage().pool(), info.id, peer).await?;
        Ok(())
    }

    /// Entries for a follower of a stream of ours; or, of a stream that we follow, for its home, which lost some.
    pub async fn entries(
        &self,
        peer: &Did,
        stream: &str,
        from: Seq,
        limit: u32,
        max_bytes: usize,
    ) -> Result<Entries, Error> {
        let info = self.log().find_stream(stream).await?.ok_or_else(stream_not_found)?;
        let row = self.log().row(info.id).await?;
        let for_home = row.home == peer.as_str();
        let handover = store::find_handover(self.storage().pool(), info.id).await?;
        let until = handover.as_ref().and_then(|handover| handover.seq);
        let mut ended = None;
        if !for_home {
            ended = self.seated(peer, stream).await?.1.until;
            if until.is_none() {
                self.orders(&row)?;
            }
        }
        // The next home gets everything beforehand, for a day after it was named.
        let since = self.clock().now().0 - PREPARES_MS;
        let is_next = handover.is_some_and(|handover| {
            handover.seq.is_none() && handover.server == peer.as_str() && handover.asked_at.0 > since
        });
        let reader = (!for_home && !is_next).then_some(peer);
        let limit = limit.clamp(1, REQUEST_ENTRIES);
        let mut entries = self.log().raw_entries(info.id, from, limit, max_bytes.min(REQUEST_BYTES), reader).await?;
        // Of a stream that went to another home we tell what we ordered, and that home, by itself, what it did.
        let ours = until.is_none_or(|until| from <= until);
        if !for_home || ours {
            entries.retain(|entry| until.is_none_or(|until| entry.seq <= until));
        }
        if let Some(ended) = ended {
            entries.retain(|entry| entry.seq <= ended);
        }
        let last_told = ended.unwrap_or(row.head_seq).min(row.head_seq);
        let prev = match from.0.saturating_sub(1) {
            0 => Hash::ZERO,
            before => self.at(info.id, Seq(before)).await.map_or(Hash::ZERO, |head| head.hash),
        };
        let (checkpoint, term, more) = match entries.last() {
            Some(last) if for_home && until.is_none_or(|until| last.seq > until) => {
                let held = self.log().find_checkpoint(info.id, last.seq, None).await?;
                let exact = held.filter(|(seq, _)| *seq == last.seq).map(|(_, signed)| signed);
                (exact, Header::decode(&last.held.header)?.term, last.seq < last_told)
            }
            Some(last) => {
                let head = self.at(info.id, last.seq).await?;
                (Some(self.sign(&head)?), head.term, last.seq < last_told)
            }
            None => (None, row.term, false),
        };
        Ok(Entries { term, from, prev, entries, checkpoint, more })
    }

    /// The earliest checkpoint held at or after `seq`, with the headers that lead from there to it; the newest without.
    pub async fn checkpoint(&self, peer: &Did, stream: &str, seq: Option<Seq>) -> Result<Witnessed, Error> {
        let (info, seated) = self.seated(peer, stream).await?;
        let row = self.log().row(info.id).await?;
        // The home itself may ask for any of its own checkpoints.
        let until = seated.until.filter(|_| row.home != peer.as_str());
        if seq.is_some_and(|seq| until.is_some_and(|until| seq > until)) {
            return Err(not_here());
        }
        let told = self.witnessed(&info, &row, seq.or(until)).await?;
        let beyond = Checkpoint::of(&told.checkpoint).is_ok_and(|told| until.is_some_and(|until| told.seq > until));
        if beyond { Err(not_here()) } else { Ok(told) }
    }

    async fn witnessed(&self, info: &StreamInfo, row: &StreamRow, seq: Option<Seq>) -> Result<Witnessed, Error> {
        if self.is_ours(&row.home) {
            // What is stored may be signed at any number: nothing has to lead there.
            if let Some(seq) = seq
                && let Some(told) = self.promised_before(info.id, seq).await?
            {
                return Ok(told);
            }
            let checkpoint = match seq {
                Some(seq) if seq > row.head_seq => return Err(not_here()),
                Some(seq) => self.sign(&self.at(info.id, seq).await?)?,
                None => self.fresh(row)?,
            };
            return Ok(Witnessed { checkpoint, headers: Vec::new() });
        }
        let held = match seq {
            Some(seq) => self.log().find_checkpoint(info.id, seq, None).await?,
            None => self.log().newest_checkpoint(info.id).await?,
        };
        let (at, checkpoint) = held.ok_or_else(not_here)?;
        let headers = match seq {
            Some(seq) => self.log().headers(info.id, seq, at).await?,
            None => Vec::new(),
        };
        // What lies before our first entry is not here, whatever checkpoint is.
        if seq.is_some_and(|seq| headers.len() as u64 != at.0 - seq.0) {
            return Err(not_here());
        }
        Ok(Witnessed { checkpoint, headers: headers.into_iter().map(Bytes).collect() })
    }

    /// The checkpoint of the earlier home that ordered the entry, if this server has it.
    async fn promised_before(&self, stream_id: i64, seq: Seq) -> Result<Option<Witnessed>, Error> {
        let (_, changes) = self.log().lineage(stream_id).await?;
        let mut began = None;
        for change in &changes {
            if EntryKind::from_name(&Header::decode(&change.held.header)?.kind) == Some(EntryKind::HomeOpened) {
                began = Some(change.seq);
            }
        }
        let held = match began {
            Some(began) if seq < began => self.log().find_checkpoint(stream_id, seq, None).await?,
            _ => None,
        };
        let Some((at, checkpoint)) = held.filter(|(at, _)| at.0 - seq.0 <= 1024) else { return Ok(None) };
        let headers = self.log().headers(stream_id, seq, at).await?;
        Ok(Some(Witnessed { checkpoint, headers: headers.into_iter().map(Bytes).collect() }))
    }

    fn fresh(&self, row: &StreamRow) -> Result<Signed, Error> {
        if let Some((_, signed)) = self.inner.fresh.get(&row.id) {
            return Ok(signed);
        }
        let signed = self.sign(&row.head())?;
        self.inner.fresh.insert(row.id, (row.head_seq, signed.clone()));
        Ok(signed)
    }

    /// The stream as it stood after that entry.
    pub(super) async fn at(&self, stream_id: i64, seq: Seq) -> Result<Head, Error> {
        self.log().head_at(stream_id, seq).await?.ok_or_else(not_here)
    }

    pub(super) fn orders(&self, row: &StreamRow) -> Result<(), Error> {
        if self.is_ours(&row.home) {
            return Ok(());
        }
        let detail = Detail::new("another server is the home of this stream").with("home", row.home.clone());
        Err(Refusal::new("NotHome", detail).into())
    }
}

fn not_here() -> Error {
    Refusal::new("NotHere", "nothing at or after that number is held here").into()
}
