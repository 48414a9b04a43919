//! Who orders a stream, and under which term, from its founding on (FEDERATION sections 4, 5).
//!
//! Invariant: a home is believed because the genesis, whose hash is the stream's id, or the home before names it; never
//! because it says so itself.

use serde::{Deserialize, Serialize};

use super::EntryKind;
use super::acceptance::{ACCEPTANCE_LABEL, Acceptance};
use super::body::{Body, HomeChangedBody, HomeOpenedBody, HomeRestoredBody};
use super::chain::{CHECKPOINT_LABEL, CONTENT_LABEL, Checkpoint, Content, Genesis, HEADER_BYTES, Header, entry_hash};
use crate::identity::Signed;
use crate::types::{Bytes, Did, Hash, Seq, StreamId, Term};

/// Entries that a lineage tells, at most.
pub const LINEAGE_LINKS: usize = 64;

/// An entry that ends a reign or opens a term, and the word for it of the home that ordered it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageLink {
    pub header: Bytes,
    pub content: Bytes,
    pub checkpoint: Signed,
}

/// A term, and who ordered in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reign {
    pub home: String,
    pub term: Term,
    /// The entry that opened it.
    pub from: Seq,
}

/// A statement on which a lineage rests. Its signature is judged by whoever knows the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub label: &'static str,
    pub by: String,
    pub signed: Signed,
}

/// All terms from the founding on, and what has to be verified before any of it is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub present: Reign,
    past: Vec<Reign>,
    pub words: Vec<Word>,
}

impl Lineage {
    fn reigns(&self) -> impl Iterator<Item = &Reign> {
        self.past.iter().chain([&self.present])
    }

    /// Who ordered in this term.
    pub fn home_in(&self, term: Term) -> Option<&str> {
        self.reigns().find(|reign| reign.term == term).map(|reign| reign.home.as_str())
    }

    /// Whether this home ordered in this term or in a later one: what somebody knows up to there goes on with this.
    pub fn leads_through(&self, home: &str, term: Term) -> bool {
        self.reigns().any(|reign| reign.home == home && reign.term >= term)
    }
}

/// Why a lineage is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lineage does not hold: {0}")]
pub struct BadLineage(pub &'static str);

/// Walks from the genesis to the present reign.
pub fn trace(stream: &StreamId, genesis: &[u8], links: &[LineageLink]) -> Result<Lineage, BadLineage> {
    if StreamId::of_genesis(genesis) != *stream {
        return Err(BadLineage("the genesis founds another stream"));
    }
    let genesis = Genesis::decode_exact(genesis).map_err(|_| BadLineage("the genesis is not one"))?;
    if links.len() > LINEAGE_LINKS {
        return Err(BadLineage("more than 64 changes of term"));
    }
    let first = Reign { term: genesis.term(), home: genesis.home, from: Seq(0) };
    let mut walk = Walk { past: Vec::new(), present: first, handed: None, words: Vec::new() };
    for link in links {
        walk.step(stream, link)?;
    }
    match walk.handed {
        Some(_) => Err(BadLineage("a move that the next home did not take up")),
        None => Ok(Lineage { present: walk.present, past: walk.past, words: walk.words }),
    }
}

/// Between `#homeChanged` and `#homeOpened`.
struct Handed {
    to: Did,
    term: Term,
    seq: Seq,
    hash: Hash,
}

struct Walk {
    past: Vec<Reign>,
    present: Reign,
    handed: Option<Handed>,
    words: Vec<Word>,
}

impl Walk {
    fn step(&mut self, stream: &StreamId, link: &LineageLink) -> Result<(), BadLineage> {
        if link.header.0.len() > HEADER_BYTES {
            return Err(BadLineage("a header is too long"));
        }
        let header = Header::decode_exact(&link.header.0).map_err(|_| BadLineage("a header is not one"))?;
        let content = Content::decode_exact(&link.content.0).map_err(|_| BadLineage("a content is not one"))?;
        if header.stream != *stream || Hash::labelled(CONTENT_LABEL, &link.content.0) != header.content() {
            return Err(BadLineage("an entry is of another stream, or its content of another entry"));
        }
        let changes = EntryKind::from_name(&header.kind) == Some(EntryKind::HomeChanged);
        let rises = header.seq > self.present.from && (changes || header.term > self.present.term);
        if !rises {
            return Err(BadLineage("terms do not rise"));
        }
        if changes {
            return self.changed(&header, &content, link);
        }
        let home = match EntryKind::from_name(&header.kind) {
            Some(EntryKind::HomeRestored) => self.restored(&header, &content)?,
            Some(EntryKind::HomeOpened) => self.opened(&header, &content)?,
            _ => return Err(BadLineage("an entry that opens no term")),
        };
        self.promised(&home, &header, link)?;
        let next = Reign { home, term: header.term, from: header.seq };
        self.past.push(std::mem::replace(&mut self.present, next));
        Ok(())
    }

    fn restored(&self, header: &Header, content: &Content) -> Result<String, BadLineage> {
        let body = HomeRestoredBody::decode(&content.body).map_err(|_| BadLineage("#homeRestored is not one"))?;
        if self.handed.is_some() {
            return Err(BadLineage("nothing but #homeOpened comes after #homeChanged"));
        }
        goes_on(header, body.base, &body.base_hash)?;
        Ok(self.present.home.clone())
    }

    fn changed(&mut self, header: &Header, content: &Content, link: &LineageLink) -> Result<(), BadLineage> {
        let body = HomeChangedBody::decode(&content.body).map_err(|_| BadLineage("#homeChanged is not one"))?;
        let acceptance = Acceptance::of(&body.acceptance).map_err(|_| BadLineage("an acceptance is not one"))?;
        if self.handed.is_some() {
            return Err(BadLineage("nothing but #homeOpened comes after #homeChanged"));
        }
        let fits = acceptance.is_for(header, &body.to) && acceptance.from.as_str() == self.present.home;
        if !fits || header.term != self.present.term || body.term <= header.term {
            return Err(BadLineage("a move that the next home did not accept"));
        }
        let home = self.present.home.clone();
        self.promised(&home, header, link)?;
        self.words.push(Word { label: ACCEPTANCE_LABEL, by: body.to.to_string(), signed: body.acceptance });
        let hash = entry_hash(&link.header.0);
        self.handed = Some(Handed { to: body.to, term: body.term, seq: header.seq, hash });
        Ok(())
    }

    fn opened(&mut self, header: &Header, content: &Content) -> Result<String, BadLineage> {
        let body = HomeOpenedBody::decode(&content.body).map_err(|_| BadLineage("#homeOpened is not one"))?;
        let handed = self.handed.take().ok_or(BadLineage("a move without the word of the home before"))?;
        goes_on(header, body.base, &body.base_hash)?;
        let follows = body.base == handed.seq && header.prev() == handed.hash && header.term >= handed.term;
        if !follows || body.from.as_str() != self.present.home {
            return Err(BadLineage("a move that another entry announced"));
        }
        Ok(handed.to.to_string())
    }

    /// The home that ordered the entry says that it stands there.
    fn promised(&mut self, home: &str, header: &Header, link: &LineageLink) -> Result<(), BadLineage> {
        let checkpoint = Checkpoint::of(&link.checkpoint).map_err(|_| BadLineage("a checkpoint is not one"))?;
        let told = (checkpoint.term, checkpoint.seq, checkpoint.hash());
        let fits = checkpoint.home == home && checkpoint.stream == header.stream;
        if !fits || told != (header.term, header.seq, entry_hash(&link.header.0)) {
            return Err(BadLineage("a checkpoint is not of the entry that it stands beside"));
        }
        self.words.push(Word { label: CHECKPOINT_LABEL, by: home.to_owned(), signed: link.checkpoint.clone() });
        Ok(())
    }
}

fn goes_on(header: &Header, base: Seq, base_hash: &Bytes) -> Result<(), BadLineage> {
    if base.next() == header.seq && base_hash.as_slice() == header.prev().as_slice() {
        Ok(())
    } else {
        Err(BadLineage("a term goes on from another entry than the one before it"))
    }
}

#[cfg(test)]
mod tests;
