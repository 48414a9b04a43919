//! What a cursor is worth.

use super::store::Marks;
use super::{Error, Log, store};
use crate::types::{Cursor, Refusal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// No entry can have handed it out.
    Future,
    /// Something after it is no longer kept.
    Outdated,
    Good,
}

/// 0 asks for what is kept, from its beginning on, so it is never outdated.
fn judge(cursor: Cursor, marks: Marks) -> Judged {
    if cursor > marks.newest {
        Judged::Future
    } else if cursor > Cursor(0) && cursor < marks.aged {
        Judged::Outdated
    } else {
        Judged::Good
    }
}

impl Log {
    pub async fn judge_cursor(&self, cursor: Cursor) -> Result<Judged, Error> {
        Ok(judge(cursor, store::marks(self.inner.storage.pool()).await?))
    }

    /// Whether whoever goes on after this cursor must be told that something is gone. Refuses what no entry handed out.
    pub async fn is_outdated(&self, cursor: Cursor) -> Result<bool, Error> {
        match self.judge_cursor(cursor).await? {
            Judged::Good => Ok(false),
            Judged::Outdated => Ok(true),
            Judged::Future => {
                Err(Refusal::new("FutureCursor", "the cursor is beyond the newest event of this server").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_outdated_before_what_aged_out_and_future_beyond_what_is_stored() {
        let marks = Marks { newest: Cursor(90), aged: Cursor(40) };
        for (cursor, judged) in [
            (0, Judged::Good),
            (1, Judged::Outdated),
            (39, Judged::Outdated),
            (40, Judged::Good),
            (90, Judged::Good),
            (91, Judged::Future),
        ] {
            assert_eq!(judge(Cursor(cursor), marks), judged, "{cursor}");
        }
        let nothing = Marks { newest: Cursor(0), aged: Cursor(0) };
        assert_eq!(judge(Cursor(0), nothing), Judged::Good);
        assert_eq!(judge(Cursor(1), nothing), Judged::Future);
    }
}
