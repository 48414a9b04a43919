//! Adoption of entries from before the first entry that a replica holds.
//!
//! Invariant: positions rise with seqs in every stream, also in a stream whose beginning arrived last. A backfilled
//! entry has a negative position, which the tailer and cursors skip.

use super::verify::{Entry, read};
use super::{DRAFTS_PER_TRANSACTION, Held, malformed};
use crate::log::body::{Body, CommitBody};
use crate::log::retention::Keep;
use crate::log::{Error, Log, store};
use crate::types::{Refusal, Seq, UnixMillis};

impl Log {
    /// Stores entries that lead to the first that is held: they are what the home made, because that one names the hash of
    /// the last of them.
    pub async fn adopt_before(&self, stream_id: i64, entries: &[Held]) -> Result<(), Error> {
        if entries.len() > DRAFTS_PER_TRANSACTION {
            return Err(Error::TooManyEntries);
        }
        let entries: Vec<Entry<'_>> = entries.iter().map(read).collect::<Result<_, _>>()?;
        let broken = || Refusal::new("ChainBroken", "the entries do not lead to the first that is held");
        let weeks: Vec<Option<i16>> = entries
            .iter()
            .map(|entry| self.week_of_backfilled(Keep::of_named(&entry.kind), entry.header.time))
            .collect();
        self.ensure_weeks(&weeks).await?;
        let mut won = self.win(stream_id).await?;
        let first = store::first_header(won.tx.conn(), stream_id).await?.ok_or_else(broken)?;
        let following = entries.iter().skip(1).map(|entry| &entry.header).chain([&first]);
        let links = entries.iter().zip(following).all(|(entry, next)| {
            let linked = next.prev() == entry.hash && next.seq == entry.header.seq.next();
            linked && entry.header.stream == won.row.public_id
        });
        if !links {
            return Err(broken().into());
        }
        // Below every position of the order of all streams: readers reach these entries by seq alone. A later call of
        // this function brings earlier entries in a younger transaction, so that positions rise with seqs.
        let first_pos = backfill_position(won.first_pos, entries.len());
        store::adopt_entries(won.tx.conn(), stream_id, first_pos, &entries, &weeks).await?;
        store::grow(won.tx.conn(), stream_id, entries.iter().map(Entry::size_bytes).sum()).await?;
        for (seq, time) in ageing(&entries)? {
            store::insert_ageing(won.tx.conn(), stream_id, seq, time).await?;
        }
        Ok(won.tx.commit().await?)
    }
}

/// The position of the first backfilled entry of a transaction that would otherwise begin at `first_pos`.
fn backfill_position(first_pos: i64, entries: usize) -> i64 {
    1 - first_pos - i64::try_from(entries).unwrap_or(i64::MAX)
}

/// Handshakes that changed no seat.
fn ageing(entries: &[Entry<'_>]) -> Result<Vec<(Seq, UnixMillis)>, Error> {
    let mut ageing = Vec::new();
    for entry in entries.iter().filter(|entry| Keep::of_named(&entry.kind) == Keep::Handshakes) {
        if let Some(content) = &entry.content {
            let CommitBody { adds, removes, .. } = CommitBody::decode(&content.body).map_err(malformed)?;
            if adds.is_empty() && removes.is_empty() {
                ageing.push((entry.header.seq, entry.header.time));
            }
        }
    }
    Ok(ageing)
}

#[cfg(test)]
mod tests {
    use super::backfill_position;

    #[test]
    fn backfilled_positions_rise_with_seqs_and_never_overlap() {
        // Two consecutive transactions; the second brings the entries before those of the first.
        let (first, second) = (7 << 10, 8 << 10);
        let of_first: Vec<i64> = (backfill_position(first, 1_023)..).take(1_023).collect();
        let of_second: Vec<i64> = (backfill_position(second, 1_023)..).take(1_023).collect();
        assert_eq!(of_first.last(), Some(&-first));
        assert!(of_second.last() < of_first.first());
        assert!(of_first.iter().chain(&of_second).all(|pos| *pos < 0));
    }
}
