//! Entries that a server must not pass over.
//!
//! Invariant: a stream names every feature that one of its entries requires, so that a version that lacks one knows it
//! from the row alone.

use super::{Draft, Seat, StreamTx};
use crate::log::Error;
use crate::log::chain::{Content, Sealed};
use crate::log::features::FEATURES_PER_STREAM;
use crate::log::store::StreamRow;
use crate::types::Refusal;

impl StreamTx {
    /// Appends one entry that requires a feature: a server that lacks the feature takes nothing after the entry.
    pub async fn append_requiring(&mut self, by: &Seat, draft: Draft, feature: &str) -> Result<Sealed, Error> {
        let author = by.author.as_ref();
        let content = Content::new(draft.body, author.map(|author| (author.did.clone(), author.device.clone())));
        let Draft { kind, epoch, identity, .. } = draft;
        self.insert(author, &content, kind, Some(feature), epoch, identity).await
    }
}

/// Keeps with the stream that one of its entries requires this feature.
pub(in crate::log) fn require(row: &mut StreamRow, feature: &str) -> Result<(), Refusal> {
    if row.requires.iter().any(|required| required == feature) {
        return Ok(());
    }
    if row.requires.len() >= FEATURES_PER_STREAM {
        return Err(Refusal::new("Malformed", "the entries of the stream require more than 16 features"));
    }
    row.requires.push(feature.to_owned());
    Ok(())
}
