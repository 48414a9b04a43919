//! A next home fetches what it lacks: entries from before its members came, and contents that were not for them.
//!
//! Invariant: what is stored links to what is held already, or has the hash that a held header names.

use crate::federation::replica::Replicas;
use crate::federation::replica::recovery::fits;
use crate::federation::replica::store::handover as rows;
use crate::lexicon::peer::get_entries::{GetEntries, Params};
use crate::log::{Error, Held};
use crate::types::{Bytes, Did, Seq};

/// Entries and bytes of one request: as JSON they must fit into an answer.
const ENTRIES: u64 = 256;
const BYTES: u64 = 4 << 20;

impl Replicas {
    pub(in crate::federation::replica) async fn backfill_due(&self) -> Result<(), Error> {
        let (pool, now) = (self.storage().pool(), self.clock().now());
        for stream_id in rows::due_backfills(pool, now).await? {
            let row = self.log().row(stream_id).await?;
            let Ok(home) = Did::parse(&row.home) else { continue };
            match self.backfill(stream_id, row.public_id.as_str(), &home).await {
                Ok(true) => rows::backfilled(pool, stream_id, row.head_seq).await?,
                // The fetched entries stay; another offer of the stream continues from there.
                Ok(false) => rows::end_backfill(pool, stream_id).await?,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a next home could not fetch what it lacks"
                    );
                    rows::end_backfill(pool, stream_id).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether nothing is missing any more that the home has.
    pub(super) async fn backfill(&self, stream_id: i64, stream: &str, home: &Did) -> Result<bool, Error> {
        let pool = self.storage().pool();
        while let Some(first) = rows::first_held(pool, stream_id).await?.filter(|first| *first > Seq(1)) {
            let mut count = ENTRIES.min(first.0 - 1);
            let before = loop {
                let Some(came) = self.fetch_entries(home, stream, first.0 - count, count).await else {
                    return Ok(false);
                };
                match came.len() as u64 {
                    0 => return Ok(false),
                    // More than fits: what lies nearer is asked for.
                    fewer if fewer < count => count = fewer,
                    _ => break came,
                }
            };
            self.log().adopt_before(stream_id, &before).await?;
        }
        let mut after = Seq(0);
        while let Some(hole) = rows::next_hole(pool, stream_id, after).await? {
            let Some(came) = self.fetch_entries(home, stream, hole.0, ENTRIES).await else { return Ok(false) };
            let Some(last) = hole.0.checked_add(came.len() as u64).filter(|_| !came.is_empty()) else {
                return Ok(false);
            };
            let fitting = came.iter().zip(hole.0..).filter(|(entry, _)| fits(&entry.header, entry.content.as_deref()));
            for (entry, seq) in fitting {
                rows::fill(pool, stream_id, Seq(seq), entry).await?;
            }
            after = Seq(last - 1);
        }
        Ok(true)
    }

    async fn fetch_entries(&self, home: &Did, stream: &str, from: u64, limit: u64) -> Option<Vec<Held>> {
        let params = Params { stream: stream.to_owned(), from, limit, max_bytes: BYTES };
        let answer = self.federation().query::<GetEntries>(home, &params, None).await;
        let answer =
            answer.inspect_err(|error| tracing::info!(peer = home.as_str(), %error, "no entries came")).ok()?;
        let held =
            |header: Bytes, content: Option<Bytes>| Held { header: header.0, content: content.map(|bytes| bytes.0) };
        Some(answer.entries.into_iter().map(|entry| held(entry.header, entry.content)).collect())
    }
}
