//! The ends and beginnings of terms.
//!
//! Invariant: the first entry of a term says from where it goes on; no term is given out twice.

use super::StreamTx;
use crate::log::body::{Body, HomeRestoredBody};
use crate::log::chain::Content;
use crate::log::{EntryKind, Error, store};
use crate::types::{Bytes, Did, Term};

/// A term that no accident gave out before.
pub(in crate::log) fn later(term: Term, now_s: i64) -> Term {
    term.next().max(Term(u64::try_from(now_s).unwrap_or(0)))
}

impl StreamTx {
    /// The database went back in time since this stream's last entry: a new term says from where it goes on.
    pub(in crate::log) async fn reopen(&mut self) -> Result<(), Error> {
        self.begin_writes().await?;
        if self.take_up().await? {
            return Ok(());
        }
        let restored_to = store::restored_to(self.tx.conn(), self.row.incarnation).await?;
        let body = HomeRestoredBody {
            base: self.head.seq,
            base_hash: Bytes(self.head.hash.to_vec()),
            // Without a raise a peer detected the loss: then only this stream's own time is known.
            restored_to: restored_to.map_or(self.head.time, Into::into),
        };
        let term = later(self.head.term, self.log.inner.clock.now_seconds());
        self.open_term(term, EntryKind::HomeRestored, body.encode()?).await
    }

    pub(in crate::log) async fn open_term(&mut self, term: Term, kind: EntryKind, body: Vec<u8>) -> Result<(), Error> {
        self.head.term = term;
        self.row.incarnation = self.log.inner.incarnation;
        self.rules_changed = true;
        self.write(None, &Content::new(body, None), kind, None, None, None).await?;
        Ok(())
    }

    /// Another server orders the stream once this is committed.
    pub(in crate::log) fn goes_to(&mut self, home: &Did) {
        self.row.home = home.to_string();
        self.rules_changed = true;
    }
}
