//! Whether a reader may go on from a cursor.

use super::{Error, Log, store};
use crate::types::{Cursor, Refusal};

/// What a cursor is to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// Of a future that a restore took away: everything that is still there can be read on from it, but something that
    /// was read before is gone.
    Outdated,
}

impl Log {
    /// Refuses a cursor that no entry can have handed out.
    pub async fn judge(&self, cursor: Cursor) -> Result<Standing, Error> {
        let pool = self.inner.storage.pool();
        let known = store::standing(pool, cursor).await?;
        if known.lost {
            Ok(Standing::Outdated)
        } else if cursor > known.newest {
            Err(Refusal::new("FutureCursor", "the cursor is beyond the newest event of this server").into())
        } else {
            Ok(Standing::Current)
        }
    }
}
