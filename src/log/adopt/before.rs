//! Entries from before the first that a replica holds.

use super::verify::{Entry, read};
use super::{Held, malformed};
use crate::log::body::{Body, CommitBody};
use crate::log::retention::Keep;
use crate::log::{Error, Log, store};
use crate::types::{Refusal, Seq, UnixMillis};

impl Log {
    /// Stores entries that lead to the first that is held: they are what the home made, because that one names the hash of
    /// the last of them.
    pub async fn adopt_before(&self, stream_id: i64, entries: &[Held]) -> Result<(), Error> {
        let entries: Vec<Entry<'_>> = entries.iter().map(read).collect::<Result<_, _>>()?;
        let broken = || Refusal::new("ChainBroken", "the entries do not lead to the first that is held");
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
        store::adopt_entries(won.tx.conn(), stream_id, won.first_pos, &entries).await?;
        for (seq, time) in ageing(&entries)? {
            store::insert_ageing(won.tx.conn(), stream_id, seq, time).await?;
        }
        Ok(won.tx.commit().await?)
    }
}

/// Handshakes that changed no seat.
fn ageing(entries: &[Entry<'_>]) -> Result<Vec<(Seq, UnixMillis)>, Error> {
    let mut ageing = Vec::new();
    for entry in entries.iter().filter(|entry| Keep::of(entry.kind) == Keep::Handshakes) {
        if let Some(content) = &entry.content {
            let CommitBody { adds, removes, .. } = CommitBody::decode(&content.body).map_err(malformed)?;
            if adds.is_empty() && removes.is_empty() {
                ageing.push((entry.header.seq, entry.header.time));
            }
        }
    }
    Ok(ageing)
}
