//! Contents that are missing because a later entry took them back: the home shows that entry ahead, and the follower
//! holds it to its word (docs/decisions/0028-erasures-are-shown-ahead.md).
//!
//! Invariant: a content that a seat covers is done without only where the home signed the entry that names it.

use std::collections::BTreeSet;

use super::Replicas;
use super::wire::{Replicate, WireErasure};
use crate::log::body::{Body, ErasedBody};
use crate::log::chain::{CONTENT_LABEL, Content, Header, NotCanonical, entry_hash};
use crate::log::{EntryKind, Error, Head, RawEntry};
use crate::types::{Bytes, Did, Hash, Refusal, Seq, Term, UnixMillis};

/// Erasures that one request shows ahead.
pub(super) const ERASURES: usize = 16;
/// Read at a time.
const PAGE: u32 = 64;
/// Contents older than a day may be missing anyway; an hour allows for differing clocks.
const NEEDS_NO_REASON_MS: i64 = 25 * 60 * 60 * 1000;

/// An entry that took contents back.
struct Erasure {
    entry: RawEntry,
    /// The first message of the request that is missing because of it, and of no entry before it.
    first: Seq,
    /// Whether the request carries it, with its content.
    carried: bool,
}

impl Erasure {
    /// Whether a request that ends there has to show it.
    fn is_shown(&self, last: Seq) -> bool {
        self.first <= last && !(self.carried && self.entry.seq <= last)
    }
}

impl Replicas {
    /// What has to be shown with these entries, the next of a follower. Entries for which more had to be shown than one
    /// request may are left for the next.
    pub(super) async fn erasures(
        &self,
        stream_id: i64,
        follower: &Did,
        entries: &mut Vec<RawEntry>,
    ) -> Result<Vec<WireErasure>, Error> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(Vec::new()) };
        if entries.iter().all(|entry| entry.held.content.is_some()) {
            return Ok(Vec::new());
        }
        let since = UnixMillis(self.clock().now().0 - NEEDS_NO_REASON_MS);
        let missing = self.log().missing_messages(stream_id, (first.seq, last.seq), follower, since).await?;
        let mut erasures = self.naming(stream_id, missing.into_iter().collect()).await?;
        for erasure in &mut erasures {
            let carries = |entry: &RawEntry| entry.seq == erasure.entry.seq && entry.held.content.is_some();
            erasure.carried = entries.iter().any(carries);
        }
        let last = ends(&erasures, last.seq);
        entries.retain(|entry| entry.seq <= last);
        erasures.into_iter().filter(|erasure| erasure.is_shown(last)).map(|erasure| self.shows(erasure.entry)).collect()
    }

    /// The entries that name these messages.
    async fn naming(&self, stream_id: i64, mut missing: BTreeSet<Seq>) -> Result<Vec<Erasure>, Error> {
        let mut found = Vec::new();
        let Some(mut after) = missing.first().copied() else { return Ok(found) };
        loop {
            let page = self.log().erasures(stream_id, after, PAGE).await?;
            let ends = page.len() < PAGE as usize;
            for entry in page {
                after = entry.seq;
                let content = entry.held.content.as_deref().unwrap_or_default();
                let seqs = ErasedBody::decode(&Content::decode(content)?.body)?.seqs;
                if let Some(first) = seqs.into_iter().filter(|seq| missing.remove(seq)).min() {
                    found.push(Erasure { entry, first, carried: false });
                }
            }
            if ends || missing.is_empty() {
                return Ok(found);
            }
        }
    }

    fn shows(&self, entry: RawEntry) -> Result<WireErasure, Error> {
        let Header { stream, term, seq, time, .. } = Header::decode(&entry.held.header)?;
        let checkpoint = self.sign(&Head { stream, term, seq, hash: entry.hash, time })?;
        let content = entry.held.content.unwrap_or_default();
        Ok(WireErasure { header: Bytes(entry.held.header), content: Bytes(content), checkpoint })
    }

    /// Messages that come without content because an entry names them that the request, whose last entry is `last`,
    /// carries or shows ahead.
    pub(super) async fn erased_by(
        &self,
        peer: &Did,
        request: &Replicate,
        last: (Term, Seq),
    ) -> Result<BTreeSet<Seq>, Error> {
        let carried = request.entries.iter().filter_map(|entry| named(&entry.header, entry.content.as_ref()?).ok());
        let mut erased: BTreeSet<Seq> = carried.flat_map(|(_, seqs)| seqs).collect();
        for shown in &request.erasures {
            let (header, seqs) = named(&shown.header, &shown.content)?;
            if !stands(request, &header, shown, last) {
                let why = "an erasure is of another stream, or does not come after what it names";
                return Err(Refusal::new("ContentMismatch", why).into());
            }
            let checkpoint = self.checkpoint_by(peer, &request.stream, &shown.checkpoint).await?;
            let at = (header.term, header.seq, entry_hash(&shown.header.0));
            if (checkpoint.term, checkpoint.seq, checkpoint.hash()) != at {
                let why = "the checkpoint of an erasure is not the home's word for that entry";
                return Err(Refusal::new("CheckpointInvalid", why).into());
            }
            erased.extend(seqs);
        }
        Ok(erased)
    }
}

/// Where a request ends that shows no more erasures than it may, if it would go to `last` without them.
fn ends(erasures: &[Erasure], mut last: Seq) -> Seq {
    loop {
        // What is cut off may have carried some: then they are shown too.
        let shown = erasures.iter().filter(|erasure| erasure.is_shown(last));
        let firsts: BTreeSet<Seq> = shown.map(|erasure| erasure.first).collect();
        match firsts.into_iter().nth(ERASURES) {
            Some(Seq(beyond)) => last = Seq(beyond - 1),
            None => return last,
        }
    }
}

/// An `#erased` entry, and the messages before it that it names.
fn named(header: &Bytes, content: &Bytes) -> Result<(Header, Vec<Seq>), Refusal> {
    let malformed = |why: NotCanonical| Refusal::new("Malformed", why.to_string());
    let read = Header::decode_exact(&header.0).map_err(malformed)?;
    let is_erased = EntryKind::from_name(&read.kind) == Some(EntryKind::Erased);
    if !is_erased || Hash::labelled(CONTENT_LABEL, &content.0) != read.content() {
        return Err(Refusal::new("ContentMismatch", "what is shown as an erasure is none"));
    }
    let content = Content::decode_exact(&content.0).map_err(malformed)?;
    let ErasedBody { mut seqs } = ErasedBody::decode(&content.body).map_err(malformed)?;
    seqs.retain(|seq| *seq < read.seq);
    Ok((read, seqs))
}

/// Whether an erasure is of the request's stream and beyond its last entry. One whose content is withheld stands in it.
fn stands(request: &Replicate, header: &Header, shown: &WireErasure, (term, seq): (Term, Seq)) -> bool {
    let beyond = header.seq > seq && header.term >= term;
    let at = header.seq.0.checked_sub(request.from.0).and_then(|at| usize::try_from(at).ok());
    let within = at.and_then(|at| request.entries.get(at)).is_some_and(|entry| entry.header == shown.header);
    header.stream == request.stream && (beyond || within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::federation::replica::WireEntry;
    use crate::identity::Signed;
    use crate::log::chain::Genesis;
    use crate::log::{Held, StreamKind};
    use crate::types::StreamId;

    fn erasure(at: u64, first: u64, carried: bool) -> Erasure {
        let held = Held { header: Vec::new(), content: None };
        Erasure { entry: RawEntry { seq: Seq(at), hash: Hash::ZERO, held }, first: Seq(first), carried }
    }

    #[test]
    fn a_request_ends_before_the_entry_that_needs_a_seventeenth_erasure() {
        let sixteen: Vec<_> = (1..=16).map(|n| erasure(1000 - n, 2 * n, false)).collect();
        assert_eq!(ends(&sixteen, Seq(256)), Seq(256));
        let more: Vec<_> = (1..=20).map(|n| erasure(1000 - n, 2 * n, false)).collect();
        assert_eq!(ends(&more, Seq(256)), Seq(33));
        assert_eq!(more.iter().filter(|erasure| erasure.is_shown(Seq(33))).count(), ERASURES);
        assert_eq!(ends(&more, Seq(10)), Seq(10), "what is needed later is not shown now");
    }

    #[test]
    fn what_a_request_carries_is_not_shown_ahead_unless_it_is_cut_off() {
        let carried: Vec<_> = (1..=20).map(|n| erasure(100 + n, n, true)).collect();
        assert_eq!(ends(&carried, Seq(256)), Seq(256));
        assert!(!carried.iter().any(|erasure| erasure.is_shown(Seq(256))));
        // Seventeen beyond it cut it at entry 66; all that it carried stand behind that, and the cut moves on to 16.
        let beyond = (1..=17).map(|n| erasure(1000 + n, 50 + n, false));
        let both: Vec<_> = carried.into_iter().chain(beyond).collect();
        assert_eq!(ends(&both, Seq(256)), Seq(16));
        assert_eq!(both.iter().filter(|erasure| erasure.is_shown(Seq(16))).count(), ERASURES);
    }

    /// A stream with these entries behind an opening: the bodies of `#erased` ones, or none for a message.
    fn chain(erased: &[Option<&[u64]>]) -> Vec<WireErasure> {
        let genesis = Genesis::new(StreamKind::Convo, "did:web:home.test", UnixMillis(1_795_000_000_000));
        let stream = StreamId::of_genesis(&genesis.encode().unwrap());
        let (term, time) = (genesis.term(), genesis.time);
        let mut head = Head { stream, term, seq: Seq(0), hash: Hash::ZERO, time };
        let mut order = |names: Option<&[u64]>| {
            let seqs = names.unwrap_or_default().iter().copied().map(Seq).collect();
            let (kind, body) = match names {
                Some(_) => (EntryKind::Erased, ErasedBody { seqs }.encode().unwrap()),
                None => (EntryKind::Message, b"opaque".to_vec()),
            };
            let sealed = head.seal(kind, None, &Content::new(body, None), time).unwrap();
            let checkpoint = Signed { statement: Bytes(Vec::new()), key: String::new(), sig: Bytes(Vec::new()) };
            WireErasure { header: Bytes(sealed.header), content: Bytes(sealed.content), checkpoint }
        };
        erased.iter().copied().map(&mut order).collect()
    }

    #[test]
    fn an_erasure_names_messages_before_it_and_stands_behind_the_request_or_withheld_in_it() {
        let chain = chain(&[None, None, Some(&[1, 2, 3, 7]), None, Some(&[2])]);
        assert_eq!(named(&chain[2].header, &chain[2].content).unwrap().1, [Seq(1), Seq(2)]);
        assert_eq!(named(&chain[3].header, &chain[3].content).unwrap_err().name, "ContentMismatch");
        assert_eq!(named(&chain[2].header, &chain[4].content).unwrap_err().name, "ContentMismatch");
        let header = |at: usize| Header::decode(&chain[at].header.0).unwrap();
        let Header { stream, term, .. } = header(0);
        let entry = |shown: &WireErasure| WireEntry { header: shown.header.clone(), content: None };
        let request = Replicate {
            stream,
            term,
            from: Seq(1),
            prev: Bytes(vec![0; 32]),
            entries: chain[..4].iter().map(entry).collect(),
            checkpoint: chain[3].checkpoint.clone(),
            erasures: Vec::new(),
        };
        let last = (term, Seq(4));
        assert!(stands(&request, &header(4), &chain[4], last));
        assert!(stands(&request, &header(2), &chain[2], last), "withheld");
        let mut other = request.clone();
        other.entries[2].header.0[0] ^= 1;
        assert!(!stands(&other, &header(2), &chain[2], last), "another entry stands there");
        assert!(!stands(&request, &header(4), &chain[4], (term.next(), Seq(4))), "of an older term");
    }
}
