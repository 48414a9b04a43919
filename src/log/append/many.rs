//! Several entries of one stream in one statement: while a transaction writes, every reader of the log waits.

use super::{ENTRIES_PER_TRANSACTION, Seat, StreamTx};
use crate::log::chain::{CONTENT_BYTES, Content, Sealed};
use crate::log::writer::{EntryColumns, NewEntry, insert_entries};
use crate::log::{Application, EntryKind, Error};

impl StreamTx {
    /// Appends what the writer has judged. The contents name no author: the home knows the sender, other servers need
    /// not.
    pub(in crate::log) async fn append_judged(&mut self, items: &[&Application]) -> Result<Vec<Sealed>, Error> {
        let entries = items.iter().map(|item| (NewEntry::of(item), Content::new(item.body.clone(), None)));
        self.append_many(entries.collect()).await
    }

    /// Appends what the server tells the account of an account stream. None of these entries changes a seat.
    pub(in crate::log) async fn append_notices(
        &mut self,
        by: &Seat,
        notices: Vec<(EntryKind, Vec<u8>)>,
    ) -> Result<(), Error> {
        debug_assert!(by.author.is_none());
        if let Some((kind, _)) = notices.iter().find(|(kind, _)| kind.changes_seats() || *kind == EntryKind::Erased) {
            return Err(Error::NoNotice(*kind));
        }
        let entries = notices.into_iter().map(|(kind, body)| (NewEntry::notice(kind), Content::new(body, None)));
        self.append_many(entries.collect()).await.map(drop)
    }

    async fn append_many(&mut self, entries: Vec<(NewEntry<'_>, Content)>) -> Result<Vec<Sealed>, Error> {
        let first_pos = self.writing().await?;
        if self.index.saturating_add_unsigned(entries.len() as u64) > ENTRIES_PER_TRANSACTION {
            return Err(Error::TooManyEntries);
        }
        let mut columns = EntryColumns::after(self.index, self.log.partitions_now());
        let mut appended = Vec::with_capacity(entries.len());
        for (entry, content) in entries {
            let sealed = self.head.seal(entry.kind, entry.epoch, &content, self.log.entry_time())?;
            if sealed.content.len() > CONTENT_BYTES {
                return Err(Error::ContentTooLarge { bytes: sealed.content.len() });
            }
            self.added_bytes += sealed.size_bytes();
            self.appended.push(entry.kind);
            self.index += 1;
            columns.push(self.row.id, &entry, sealed.clone());
            appended.push(sealed);
        }
        insert_entries(self.tx.conn(), first_pos, &columns).await?;
        Ok(appended)
    }
}
