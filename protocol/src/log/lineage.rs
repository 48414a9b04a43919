//! Who orders a stream, and under which term, from its founding on (FEDERATION sections 4, 5).
//!
//! Invariant: a home is believed because the genesis, whose hash is the stream's id, or the home before names it; never
//! because it says so itself.

use serde::{Deserialize, Serialize};

use super::EntryKind;
use super::body::{Body, HomeRestoredBody};
use super::chain::{CONTENT_LABEL, Checkpoint, Content, Genesis, HEADER_BYTES, Header, entry_hash};
use crate::identity::Signed;
use crate::types::{Bytes, Hash, Seq, StreamId, Term};

/// Changes of term that a lineage tells, at most.
pub const LINEAGE_LINKS: usize = 64;

/// The entry that opened a term, and the home's word for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageLink {
    pub header: Bytes,
    pub content: Bytes,
    pub checkpoint: Signed,
}

/// The reign that a lineage ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    pub home: String,
    pub term: Term,
    /// The entry that opened it.
    pub from: Seq,
}

/// Why a lineage is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lineage does not hold: {0}")]
pub struct BadLineage(pub &'static str);

/// Walks from the genesis to the present reign. The signatures of the links' checkpoints, each by the home of its reign,
/// are judged by whoever knows the keys: `signed` is called with each.
pub fn trace<'a>(
    stream: &StreamId,
    genesis: &[u8],
    links: &'a [LineageLink],
    mut signed: impl FnMut(&str, &'a Signed),
) -> Result<Reign, BadLineage> {
    if StreamId::of_genesis(genesis) != *stream {
        return Err(BadLineage("the genesis founds another stream"));
    }
    let genesis = Genesis::decode_exact(genesis).map_err(|_| BadLineage("the genesis is not one"))?;
    if links.len() > LINEAGE_LINKS {
        return Err(BadLineage("more than 64 changes of term"));
    }
    let mut reign = Reign { term: genesis.term(), home: genesis.home, from: Seq(0) };
    for link in links {
        reign = next(stream, reign, link)?;
        signed(&reign.home, &link.checkpoint);
    }
    Ok(reign)
}

fn next(stream: &StreamId, before: Reign, link: &LineageLink) -> Result<Reign, BadLineage> {
    if link.header.0.len() > HEADER_BYTES {
        return Err(BadLineage("a header is too long"));
    }
    let header = Header::decode_exact(&link.header.0).map_err(|_| BadLineage("a header is not one"))?;
    let content = Content::decode_exact(&link.content.0).map_err(|_| BadLineage("a content is not one"))?;
    if header.stream != *stream || Hash::labelled(CONTENT_LABEL, &link.content.0) != header.content() {
        return Err(BadLineage("an entry is of another stream, or its content of another entry"));
    }
    if header.seq <= before.from || header.term <= before.term {
        return Err(BadLineage("terms do not rise"));
    }
    let (base, base_hash) = match EntryKind::from_name(&header.kind) {
        Some(EntryKind::HomeRestored) => {
            let body = HomeRestoredBody::decode(&content.body).map_err(|_| BadLineage("#homeRestored is not one"))?;
            (body.base, body.base_hash)
        }
        // A move is believed by the word of the home before, which a lineage does not carry yet.
        Some(EntryKind::HomeOpened) => return Err(BadLineage("a move without the word of the home before")),
        _ => return Err(BadLineage("an entry that opens no term")),
    };
    if base.next() != header.seq || base_hash.0 != header.prev().as_slice() {
        return Err(BadLineage("a term goes on from another entry than the one before it"));
    }
    let checkpoint = Checkpoint::of(&link.checkpoint).map_err(|_| BadLineage("a checkpoint is not one"))?;
    let names = checkpoint.home == before.home && checkpoint.stream == *stream;
    let same =
        (checkpoint.term, checkpoint.seq, checkpoint.hash()) == (header.term, header.seq, entry_hash(&link.header.0));
    if !names || !same {
        return Err(BadLineage("a checkpoint is not of the entry that it stands beside"));
    }
    Ok(Reign { home: before.home, term: header.term, from: header.seq })
}

#[cfg(test)]
mod tests;
