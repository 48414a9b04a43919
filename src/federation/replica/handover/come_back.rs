//! A new home whose database went back to before the move.
//!
//! Invariant: it is the home again by its own acceptance, and orders nothing before it asked who holds what it ordered.

use std::collections::BTreeSet;

use crate::federation::replica::follow::signed_of;
use crate::federation::replica::store;
use crate::federation::replica::take::moves;
use crate::federation::replica::{Replicas, WireEntry};
use crate::lexicon::peer::get_entries::{GetEntries, Output, Params};
use crate::log::acceptance::ACCEPTANCE_LABEL;
use crate::log::chain::entry_hash;
use crate::log::{Adopted, Error, Held, Span, StreamRow};
use crate::types::{Did, Refusal};

impl Replicas {
    /// A stream whose home says that it went here, which a restore made us forget: its entries up to that one are asked
    /// for. What we ordered ourselves is then sought as after any restore.
    pub(in crate::federation::replica) async fn come_back(&self, row: &StreamRow, home: &Did) -> Result<(), Error> {
        let genesis = store::genesis(self.storage().pool(), row.id).await?;
        loop {
            let before = self.log().row(row.id).await?;
            let params = Params {
                stream: row.public_id.to_string(),
                from: before.head_seq.0 + 1,
                limit: 256,
                max_bytes: 4 << 20,
            };
            let asked = self.federation().query::<GetEntries>(home, &params, None).await;
            let Ok(Output { entries, checkpoint: Some(checkpoint), .. }) = asked else { return Ok(()) };
            let checkpoint = signed_of(checkpoint);
            let told = self.checkpoint_by(home, &row.public_id, &checkpoint).await?;
            let entries: Vec<WireEntry> =
                entries.into_iter().map(|entry| WireEntry { header: entry.header, content: entry.content }).collect();
            let last = entries.last().map(|entry| entry_hash(&entry.header.0));
            if last != Some(told.hash()) {
                return Err(
                    Refusal::new("CheckpointInvalid", "the checkpoint is of another entry than the last").into()
                );
            }
            for (to, acceptance) in moves(&entries)? {
                self.word_of(&to, ACCEPTANCE_LABEL, &acceptance).await?;
            }
            let entries = entries.into_iter().map(Held::from).collect();
            let span = Span {
                home: home.clone(),
                genesis: genesis.clone(),
                anchor: None,
                entries,
                erased: BTreeSet::new(),
                checkpoint: Some(checkpoint),
            };
            match self.log().adopt(&span).await? {
                Adopted::Stored { fresh, .. } if fresh > 0 => {}
                _ => return Ok(()),
            }
            if self.log().row(row.id).await?.home != before.home {
                // Also entries before the first entry here, while another server has them.
                if !self.backfill(row.id, row.public_id.as_str(), home).await? {
                    tracing::error!(stream.id = %row.public_id, "a stream that came back is not held whole");
                }
                return self.after_move(&before).await;
            }
        }
    }
}
