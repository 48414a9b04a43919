//! Application of entries that an earlier version adopted and could not apply.
//!
//! Invariant: an entry that requires a feature is applied once, by a version that knows the feature, before any later
//! entry; a version that lacks the feature leaves the stream as it is.

use super::verify::read;
use super::{Replayed, replay};
use crate::log::store::{self, StreamRow};
use crate::log::{Error, Held, Log, StreamState};
use crate::storage::Tx;

/// Streams that one query lists.
const PAGE: i64 = 64;

/// Applies, once at start, the entries that this version knows how to apply and an earlier version did not.
pub(in crate::log) async fn run(log: Log) {
    if let Err(error) = apply_all(&log).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "failed to apply entries of an earlier version");
    }
}

async fn apply_all(log: &Log) -> Result<(), Error> {
    let mut after = 0;
    loop {
        let streams = store::unapplied_streams(log.inner.storage.pool(), after, PAGE).await?;
        let Some(&last) = streams.last() else { return Ok(()) };
        after = last;
        for stream_id in streams {
            match log.apply_newest_of(stream_id).await {
                Ok(true) => tracing::info!(stream_id, "applied entry that needed a newer version"),
                Ok(false) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, stream_id, "failed to apply entry that needed a newer version");
                }
            }
        }
    }
}

impl Log {
    pub(super) async fn apply_newest_of(&self, stream_id: i64) -> Result<bool, Error> {
        let mut won = self.win(stream_id).await?;
        if !self.apply_newest(&mut won.tx, &mut won.row).await? {
            return Ok(false);
        }
        won.tx.commit().await?;
        self.inner.hub.merge(&store::spans_of_streams(self.inner.storage.pool(), &[stream_id]).await?);
        Ok(true)
    }

    /// Derives seats from the newest entry, if that is still due and this version knows the required features.
    async fn apply_newest(&self, tx: &mut Tx, row: &mut StreamRow) -> Result<bool, Error> {
        if !row.is_unapplied || row.state == StreamState::NeedsNewerVersion {
            return Ok(false);
        }
        let (header, content) = store::entry_as_made(tx.conn(), row.id, row.head_seq).await?;
        let held = Held { header, content };
        let entry = read(&held)?;
        let mut roster = store::roster(tx.conn(), row.id).await?;
        let replayed = replay(&mut roster, row, std::slice::from_ref(&entry), 0, None)?;
        self.write_replayed(tx, row.id, &replayed, row.home != self.inner.home.as_str()).await?;
        row.is_unapplied = false;
        store::set_applied(tx.conn(), row).await?;
        Ok(true)
    }

    /// Writes the seats derived from entries, and erases the contents that the entries erase. `asks`: another home
    /// opened the seats, and the accounts here decide whether they see them.
    pub(super) async fn write_replayed(
        &self,
        tx: &mut Tx,
        stream_id: i64,
        replayed: &Replayed,
        asks: bool,
    ) -> Result<(), Error> {
        let Replayed { changes, ageing, erased } = replayed;
        store::know_members(tx.conn(), changes, self.inner.clock.now()).await?;
        for changes in changes {
            store::write_seats(tx.conn(), stream_id, changes).await?;
        }
        if asks {
            self.asked(tx.conn(), stream_id, changes.iter().flatten()).await?;
        }
        store::erase(tx.conn(), stream_id, erased).await?;
        for (seq, time) in ageing {
            store::insert_ageing(tx.conn(), stream_id, *seq, *time).await?;
        }
        Ok(())
    }
}
