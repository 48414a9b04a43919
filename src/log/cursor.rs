//! Whether a reader may go on from a cursor.

use super::store::{self, StandingRow};
use super::{Error, Log};
use crate::types::{Cursor, Refusal};

/// The standing of a cursor in this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Current,
    /// The cursor lies in a span that a restore took away: a reader can go on from it, but some entries that it read
    /// before are lost.
    Lost,
    /// The cursor lies before contents that aged out: readers still get their headers.
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
