//! What the writer keeps in memory of streams: their rows, and what devices may do there.
//!
//! Invariant: the compare-and-set on `head_seq` and `rules` detects an outdated memory; the writer
//! refuses an entry only after it has read the rows again.

use std::collections::HashMap;

use hashlink::LruCache;

use super::waiting::Waiting;
use super::{Application, Right, Rights, store};
use crate::log::Error;
use crate::log::store::{FirstAnswer, StreamRow, first_answers, streams};
use crate::storage::PgConnection;
use crate::types::UnixMillis;

/// Streams in memory; one more replaces the stream that was used longest ago.
const CACHED_STREAMS: usize = 20_000;
/// Rights in memory, of all streams together, beyond which the streams that were used longest ago go.
const CACHED_RIGHTS: usize = 400_000;

pub(super) struct KnownStream {
    pub row: StreamRow,
    /// By device row.
    pub rights: HashMap<i64, Right>,
}

pub(super) struct KnownStreams {
    streams: LruCache<i64, KnownStream>,
    /// Rights of all streams.
    rights: usize,
}

impl Default for KnownStreams {
    fn default() -> Self {
        // Fixed size: rows. The rights beside them are counted.
        Self { streams: LruCache::new(CACHED_STREAMS), rights: 0 }
    }
}

impl KnownStreams {
    pub(super) fn get_mut(&mut self, stream_id: i64) -> Option<&mut KnownStream> {
        self.streams.get_mut(&stream_id)
    }

    pub(super) fn forget(&mut self, stream_id: i64) {
        self.rights -= self.streams.remove(&stream_id).map_or(0, |known| known.rights.len());
    }

    pub(super) fn forget_all(&mut self) {
        self.streams.clear();
        self.rights = 0;
    }

    fn insert(&mut self, row: StreamRow) {
        self.forget(row.id);
        if self.streams.len() >= CACHED_STREAMS {
            self.forget_oldest();
        }
        self.streams.insert(row.id, KnownStream { row, rights: HashMap::new() });
    }

    fn insert_right(&mut self, stream_id: i64, device_row: i64, right: Right) {
        if let Some(known) = self.streams.peek_mut(&stream_id) {
            let before = known.rights.insert(device_row, right);
            self.rights += usize::from(before.is_none());
        }
    }

    fn forget_oldest(&mut self) {
        self.rights -= self.streams.remove_lru().map_or(0, |(_, known)| known.rights.len());
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
        // Before the batch: a batch has at most 512 streams and rights, and none of its own must go.
        while self.rights > CACHED_RIGHTS {
            self.forget_oldest();
        }
        // Marks each stream of the batch as used.
        let mut missing: Vec<i64> =
            waiting.iter().map(|one| one.item.stream.id).filter(|id| self.streams.get(id).is_none()).collect();
        missing.sort_unstable();
        missing.dedup();
        if !missing.is_empty() {
            for row in streams(connection, &missing).await? {
                self.insert(row);
            }
        }
        let mut pairs: Vec<(i64, i64)> = waiting
            .iter()
            .map(|one| (one.item.stream.id, one.item.author.device_row))
            .filter(|(stream_id, device_row)| {
                self.streams.peek(stream_id).is_some_and(|known| !known.rights.contains_key(device_row))
            })
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        if !pairs.is_empty() {
            let rights: Rights = store::rights(connection, &pairs).await?;
            for ((stream_id, device_row), right) in rights {
                self.insert_right(stream_id, device_row, right);
            }
        }
        let items: Vec<&Application> = waiting.iter().map(|one| &one.item).collect();
        first_answers(connection, &items, now).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{StreamKind, StreamState};
    use crate::types::{Epoch, Hash, Seq, StreamId, Term, UnixMillis};

    fn row(id: i64) -> StreamRow {
        StreamRow {
            id,
            public_id: StreamId::of_genesis(&id.to_be_bytes()),
            kind: StreamKind::Convo,
            home: "did:web:home.example".to_owned(),
            state: StreamState::Active,
            term: Term(1),
            incarnation: 1,
            epoch: Epoch(0),
            epoch_floor: Epoch(0),
            head_seq: Seq(1),
            head_pos: 1,
            head_time: UnixMillis(0),
            head_hash: Hash::ZERO,
            rules: 0,
            requires: Vec::new(),
            is_unapplied: false,
            held_bytes: 0,
        }
    }

    #[test]
    fn the_stream_used_longest_ago_goes_first() {
        let mut known = KnownStreams::default();
        let streams = i64::try_from(CACHED_STREAMS).unwrap();
        for id in 0..streams {
            known.insert(row(id));
            known.insert_right(id, 1, Right::NONE);
        }
        assert!(known.get_mut(0).is_some(), "used again");
        known.insert(row(streams));
        assert!(known.get_mut(0).is_some() && known.get_mut(1).is_none() && known.get_mut(2).is_some());
        assert_eq!((known.streams.len(), known.rights), (CACHED_STREAMS, CACHED_STREAMS - 1));
        known.forget(2);
        assert_eq!(known.rights, CACHED_STREAMS - 2);
        known.forget_all();
        assert_eq!((known.streams.len(), known.rights), (0, 0));
    }
}
