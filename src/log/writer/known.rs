//! What the writer keeps in memory of streams: their rows, and what devices may do there.
//!
//! Invariant: the compare-and-set on `head_seq` and `rules` detects an outdated memory; the writer
//! refuses an entry only after it has read the rows again.

use std::collections::HashMap;

use super::waiting::Waiting;
use super::{Application, Right, Rights, store};
use crate::log::Error;
use crate::log::store::{FirstAnswer, StreamRow, first_answers, streams};
use crate::storage::PgConnection;
use crate::types::UnixMillis;

/// Streams whose heads are kept in memory; beyond it the memory starts anew.
const CACHED_STREAMS: usize = 20_000;

pub(super) struct KnownStream {
    pub row: StreamRow,
    /// By device row.
    pub rights: HashMap<i64, Right>,
}

#[derive(Default)]
pub(super) struct KnownStreams(HashMap<i64, KnownStream>);

impl KnownStreams {
    pub(super) fn get_mut(&mut self, stream_id: i64) -> Option<&mut KnownStream> {
        self.0.get_mut(&stream_id)
    }

    pub(super) fn forget(&mut self, stream_id: i64) {
        self.0.remove(&stream_id);
    }

    pub(super) fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Reads the rows and rights that this batch needs and memory lacks, then the first answers of its calls and the
    /// state of their authors. Rows first: rights that are newer than their row make the compare-and-set on `rules` fail,
    /// never pass wrongly; and a call that was appended after its row was read makes the one on `head_seq` fail.
    pub(super) async fn learn(
        &mut self,
        connection: &mut PgConnection,
        waiting: &[Waiting],
        now: UnixMillis,
    ) -> Result<Vec<FirstAnswer>, Error> {
        if self.0.len() > CACHED_STREAMS {
            self.0.clear();
        }
        let mut missing: Vec<i64> =
            waiting.iter().map(|one| one.item.stream.id).filter(|id| !self.0.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            for row in streams(connection, &missing).await? {
                self.0.insert(row.id, KnownStream { row, rights: HashMap::new() });
            }
        }
        let mut pairs: Vec<(i64, i64)> = waiting
            .iter()
            .map(|one| (one.item.stream.id, one.item.author.device_row))
            .filter(|(stream_id, device_row)| {
                self.0.get(stream_id).is_some_and(|known| !known.rights.contains_key(device_row))
            })
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        if !pairs.is_empty() {
            let rights: Rights = store::rights(connection, &pairs).await?;
            for ((stream_id, device_row), right) in rights {
                if let Some(known) = self.0.get_mut(&stream_id) {
                    known.rights.insert(device_row, right);
                }
            }
        }
        let items: Vec<&Application> = waiting.iter().map(|one| &one.item).collect();
        first_answers(connection, &items, now).await
    }
}
