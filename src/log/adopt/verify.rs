//! Verification of a span by itself, without the stored entries.

use crate::log::acceptance::Acceptance;
use crate::log::body::{Body, HomeChangedBody, HomeOpenedBody, HomeRestoredBody};
use crate::log::chain::{CONTENT_LABEL, Content, Genesis, HEADER_BYTES, Head, Header, NotCanonical, entry_hash};
use crate::log::{EntryKind, Error, NamedKind, StreamKind, features};
use crate::types::{Did, Hash, Refusal, Seq, StreamId, Term, UnixMillis};

use super::Span;

/// How far a home's clock may be ahead of ours before the entry is counted. The server stores signed entries with any
/// time: the stream would stop otherwise, and the home alone dates its entries.
const AHEAD_MS: i64 = 5 * 60 * 1000;

/// An entry as made. Its content may be withheld, aged out or erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub header: Vec<u8>,
    pub content: Option<Vec<u8>>,
}

/// An entry that links to the one before it.
pub(in crate::log) struct Entry<'a> {
    pub bytes: &'a [u8],
    pub header: Header,
    pub kind: NamedKind,
    pub hash: Hash,
    pub stored: Option<&'a [u8]>,
    pub content: Option<Content>,
    /// For `#homeChanged`: the former and the next home.
    pub moves: Option<Move>,
    opens: Option<Base>,
}

/// A home hands the stream to another, which accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::log) struct Move {
    pub from: Did,
    pub to: Did,
    /// The next term, at least.
    pub term: Term,
}

/// From where a term goes on.
struct Base {
    seq: Seq,
    hash: Vec<u8>,
}

impl Entry<'_> {
    /// Whether the entry requires a feature that this version lacks.
    pub fn needs_newer_version(&self) -> bool {
        features::lacks(self.header.requires.as_slice())
    }

    /// Of header and content, as far as the content is there.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len() + self.stored.map_or(0, <[u8]>::len)
    }

    /// The stream's head when this is its last entry.
    pub fn head(&self) -> Head {
        let Header { stream, term, seq, time, .. } = &self.header;
        Head { stream: stream.clone(), term: *term, seq: *seq, hash: self.hash, time: *time }
    }
}

/// A span that holds together.
pub(super) struct Verified<'a> {
    pub stream: StreamId,
    pub genesis: Genesis,
    pub kind: StreamKind,
    pub entries: Vec<Entry<'a>>,
    /// The number of entries that are dated more than five minutes ahead of this server's clock.
    pub from_ahead: u64,
}

impl Verified<'_> {
    /// Before the first entry.
    pub fn start(&self) -> Head {
        Head {
            stream: self.stream.clone(),
            term: self.genesis.term(),
            seq: Seq(0),
            hash: Hash::ZERO,
            time: self.genesis.time,
        }
    }
}

/// Checks each entry by itself and against the one before it in the span.
pub(super) fn verify(span: &Span, now: UnixMillis) -> Result<Verified<'_>, Error> {
    let genesis = Genesis::decode_exact(&span.genesis).map_err(malformed)?;
    let kind = StreamKind::from_name(&genesis.kind).ok_or_else(unknown_stream_kind)?;
    let stream = StreamId::of_genesis(&span.genesis);
    if span.anchor.as_ref().is_some_and(|anchor| anchor.stream != stream) {
        return Err(broken("the anchor is of another stream").into());
    }
    let mut verified =
        Verified { stream, genesis, kind, entries: Vec::with_capacity(span.entries.len()), from_ahead: 0 };
    for held in &span.entries {
        let entry = read(held)?;
        if entry.header.stream != verified.stream {
            return Err(broken("an entry is of another stream than the genesis founds").into());
        }
        if entry.header.time.0 > now.0.saturating_add(AHEAD_MS) {
            verified.from_ahead += 1;
        }
        if let Some(before) = verified.entries.last() {
            follows(&entry, &before.head(), before.moves.as_ref())?;
        }
        if entry.header.seq == Seq(1) {
            follows(&entry, &verified.start(), None)?;
            let founds = entry.content.as_ref().is_some_and(|content| content.body == span.genesis);
            if entry.kind != EntryKind::Opened || !founds {
                return Err(broken("the first entry is not the genesis").into());
            }
        }
        verified.entries.push(entry);
    }
    Ok(verified)
}

/// Whether the entry is the one after `head`. `moved`: with that one, the stream went to another home.
pub(super) fn follows(entry: &Entry<'_>, head: &Head, moved: Option<&Move>) -> Result<(), Refusal> {
    let header = &entry.header;
    if header.seq != head.seq.next() {
        return Err(broken("the numbers are not consecutive"));
    }
    if header.prev() != head.hash {
        return Err(broken("an entry does not name the hash before it"));
    }
    if header.time < head.time {
        return Err(broken("time falls"));
    }
    match (moved, entry.kind.known()) {
        (Some(moved), Some(EntryKind::HomeOpened)) if header.term < moved.term => {
            return Err(Refusal::new("StaleTerm", "the next home opens an earlier term than was announced"));
        }
        (Some(_), Some(EntryKind::HomeOpened)) => {}
        (Some(_), _) => return Err(broken("nothing but #homeOpened comes after #homeChanged")),
        (None, Some(EntryKind::HomeOpened)) => return Err(broken("a home opens a term that nobody handed to it")),
        (None, _) => {}
    }
    match entry.opens.as_ref() {
        Some(base) if header.term <= head.term => {
            Err(Refusal::new("StaleTerm", format!("the term after entry {} is not a later one", base.seq)))
        }
        Some(base) if base.seq != head.seq || base.hash != head.hash.as_slice() => {
            Err(broken("a term goes on from another entry than the one before it"))
        }
        None if header.term != head.term => {
            Err(Refusal::new("StaleTerm", "the term changes without an entry that opens it"))
        }
        _ => Ok(()),
    }
}

/// Verifies a single entry: canonical, with the content that its header names. A kind of a later version is accepted.
pub(super) fn read(held: &Held) -> Result<Entry<'_>, Refusal> {
    if held.header.len() > HEADER_BYTES {
        return Err(Refusal::new("Malformed", "a header is too long"));
    }
    let header = Header::decode_exact(&held.header).map_err(malformed)?;
    let kind = NamedKind::from_name(&header.kind).ok_or_else(|| Refusal::new("Malformed", "a kind has no name"))?;
    let content = match &held.content {
        Some(bytes) if Hash::labelled(CONTENT_LABEL, bytes) != header.content() => {
            return Err(Refusal::new("ContentMismatch", "a content is not the one that its header names"));
        }
        Some(bytes) => Some(Content::decode_exact(bytes).map_err(malformed)?),
        None => None,
    };
    let body = content.as_ref().map(|content| content.body.as_slice());
    let (mut opens, mut moves) = (None, None);
    match (kind.known(), body) {
        (Some(EntryKind::HomeOpened), Some(body)) => {
            let HomeOpenedBody { base, base_hash, .. } = HomeOpenedBody::decode(body).map_err(malformed)?;
            opens = Some(Base { seq: base, hash: base_hash.0 });
        }
        (Some(EntryKind::HomeRestored), Some(body)) => {
            let HomeRestoredBody { base, base_hash, .. } = HomeRestoredBody::decode(body).map_err(malformed)?;
            opens = Some(Base { seq: base, hash: base_hash.0 });
        }
        (Some(EntryKind::HomeChanged), Some(body)) => moves = Some(handed(&header, body)?),
        (Some(kind), None) if kind.opens_term() || kind == EntryKind::HomeChanged => {
            return Err(Refusal::new("ContentMismatch", "what ends a reign or opens a term is never withheld"));
        }
        _ => {}
    }
    let hash = entry_hash(&held.header);
    let stored = held.content.as_deref();
    Ok(Entry { bytes: &held.header, header, kind, hash, stored, content, moves, opens })
}

/// A `#homeChanged` with the next home's acceptance of the entry before it. Its signature is judged by the caller.
pub(in crate::log) fn handed(header: &Header, body: &[u8]) -> Result<Move, Refusal> {
    let HomeChangedBody { to, term, acceptance } = HomeChangedBody::decode(body).map_err(malformed)?;
    let accepted = Acceptance::of(&acceptance).map_err(malformed)?;
    if !accepted.is_for(header, &to) || term <= header.term {
        return Err(broken("a move that the next home did not accept"));
    }
    Ok(Move { from: accepted.from, to, term })
}

pub(super) fn malformed(why: NotCanonical) -> Refusal {
    Refusal::new("Malformed", why.to_string())
}

fn unknown_stream_kind() -> Refusal {
    Refusal::new("Malformed", "a kind of stream that this server does not know")
}

fn broken(why: &'static str) -> Refusal {
    Refusal::new("ChainBroken", why)
}
