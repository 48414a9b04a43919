//! Entries that require a feature, and entries of kinds that older servers do not know.
//!
//! Invariants: a stream's row names every feature that one of its entries requires, so that a version that lacks a
//! feature sees that in the row alone; a home writes a later kind, or requires a feature, only where every follower
//! knows it.

use super::{Draft, Seat, StreamTx};
use crate::log::chain::{Content, Sealed};
use crate::log::features::FEATURES_PER_STREAM;
use crate::log::store::{self, StreamRow};
use crate::log::{EntryKind, Error};
use crate::types::Refusal;

/// The most servers that a refusal names.
const SERVERS_TOLD: i64 = 8;

impl StreamTx {
    /// Appends an entry that requires a feature: a server that lacks the feature accepts no entry after it.
    pub async fn append_requiring(&mut self, by: &Seat, draft: Draft, feature: &str) -> Result<Sealed, Error> {
        let author = by.author.as_ref();
        let content = Content::new(draft.body, author.map(|author| (author.did.clone(), author.device.clone())));
        let Draft { kind, epoch, identity, .. } = draft;
        self.insert(author, &content, kind, Some(feature), epoch, identity).await
    }

    /// Refuses an entry that a follower of the stream could not apply.
    pub(super) async fn followers_know(&mut self, kind: EntryKind, feature: Option<&str>) -> Result<(), Error> {
        let later = kind.is_later().then(|| kind.name());
        if later.is_none() && feature.is_none() {
            return Ok(());
        }
        let servers = store::outdated_followers(self.tx.conn(), self.row.id, later, feature, SERVERS_TOLD).await?;
        if servers.is_empty() { Ok(()) } else { Err(Error::FollowersOutdated(servers)) }
    }
}

/// Adds the feature to those that the stream's entries require.
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
