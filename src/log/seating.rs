//! The interface by which the log asks for consent when another home's entries seat an account.
//!
//! Invariant: entries alone say who has a seat; whether an account of this server sees what its seat covers is the
//! account's own word, which lies above the log.

use futures_util::future::BoxFuture;

use super::Log;
use super::seats::SeatChange;
use crate::storage::{self, PgConnection};
use crate::types::{Did, Seq, UnixMillis};

/// Says which of the seats that another home opened are held back.
pub trait Seating: Send + Sync {
    /// In the transaction that opened them, after they were written.
    fn opened<'a>(
        &'a self,
        conn: &'a mut PgConnection,
        stream_id: i64,
        seats: &'a [(Did, Seq)],
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(), storage::Error>>;
}

impl Log {
    /// From now on `seating` is asked; the first that is named stays.
    pub fn ask(&self, seating: impl Seating + 'static) {
        // Named twice: it is the same one.
        let _ = self.inner.seating.set(Box::new(seating));
    }

    /// Asks about what these changes opened.
    pub(super) async fn asked<'a>(
        &self,
        conn: &mut PgConnection,
        stream_id: i64,
        changes: impl Iterator<Item = &'a SeatChange>,
    ) -> Result<(), storage::Error> {
        let opened = changes.filter_map(|change| match change {
            SeatChange::Opened { account, seat } => Some((account.clone(), seat.from)),
            _ => None,
        });
        let opened: Vec<(Did, Seq)> = opened.collect();
        match self.inner.seating.get() {
            Some(seating) if !opened.is_empty() => {
                seating.opened(conn, stream_id, &opened, self.inner.clock.now()).await
            }
            _ => Ok(()),
        }
    }
}
