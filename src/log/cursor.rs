//! Whether a reader may go on from a cursor.

use super::store::{self, StandingRow};
use super::{Error, Log};
use crate::types::{Cursor, Refusal};

/// What a cursor is to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// Of a future that a restore took away: everything that is still there can be read on from it, but something that
    /// was read before is gone.
    Lost,
    /// From before contents that aged out: their headers still come.
    Aged,
}

/// Nothing for a cursor that no entry can have handed out. 0 asks for what is kept, so nothing it asks for is missing.
fn judge(cursor: Cursor, known: &StandingRow) -> Option<Standing> {
    if known.lost {
        Some(Standing::Lost)
    } else if cursor > known.newest {
        None
    } else if cursor > Cursor(0) && cursor < known.aged {
        Some(Standing::Aged)
    } else {
        Some(Standing::Current)
    }
}

impl Log {
    /// Refuses a cursor that no entry can have handed out.
    pub async fn judge(&self, cursor: Cursor) -> Result<Standing, Error> {
        let known = store::standing(self.inner.storage.pool(), cursor).await?;
        judge(cursor, &known)
            .ok_or_else(|| Refusal::new("FutureCursor", "the cursor is beyond the newest event of this server").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_outdated_before_what_aged_out_and_refused_beyond_what_is_stored() {
        let known = StandingRow { newest: Cursor(90), aged: Cursor(40), lost: false };
        for (cursor, standing) in [
            (0, Some(Standing::Current)),
            (1, Some(Standing::Aged)),
            (39, Some(Standing::Aged)),
            (40, Some(Standing::Current)),
            (90, Some(Standing::Current)),
            (91, None),
        ] {
            assert_eq!(judge(Cursor(cursor), &known), standing, "{cursor}");
        }
        let restored = StandingRow { lost: true, ..known };
        assert_eq!(judge(Cursor(91), &restored), Some(Standing::Lost));
    }
}
