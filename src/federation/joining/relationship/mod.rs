//! Relationships between two accounts. Each side has its own row, on its own server.
//!
//! Invariant: no account becomes a contact by the other side's delivery alone: an agreement counts only where the
//! account has asked. A delivery of a blocked account changes nothing and gets no reply.

mod store;

use chrono::{DateTime, TimeDelta, Utc};

use crate::log::body::{Body, RelationshipBody};
use crate::log::{EntryKind, Outgoing};
use crate::storage::{Error, PgConnection};
use crate::types::{Bytes, Did};

pub use store::{Listed, is_blocked, list};

/// A request is open this long.
const OPEN: TimeDelta = TimeDelta::days(7);
/// Contacts and requests of one account, and requests of others that are open at a time: then the oldest gives way.
const MOST: i64 = 10_000;
const MOST_INCOMING: i64 = 200;

/// The state in an account's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Outgoing,
    Incoming,
    Accepted,
}

impl State {
    const ALL: [Self; 3] = [Self::Outgoing, Self::Incoming, Self::Accepted];

    const fn to_db(self) -> i16 {
        match self {
            Self::Outgoing => 1,
            Self::Incoming => 2,
            Self::Accepted => 3,
        }
    }

    fn from_db(value: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.to_db() == value)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Outgoing => "outgoing",
            Self::Incoming => "incoming",
            Self::Accepted => "accepted",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// No row is the fourth state.
pub const fn name(state: Option<State>) -> &'static str {
    match state {
        Some(state) => state.name(),
        None => "none",
    }
}

/// A change that an account makes to its relationship.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Request,
    Accept,
    Remove,
}

/// A delivery of one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Ask,
    Agree,
    End,
}

/// Why nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The other asked for nothing.
    NotFound,
    TooMany,
}

/// The effect of an account's own change on its row, and the delivery to the other account.
fn done(change: Change, own: Option<State>) -> Result<(Option<State>, Option<Word>), Refused> {
    Ok(match (change, own) {
        (Change::Request, None) => (Some(State::Outgoing), Some(Word::Ask)),
        (Change::Request | Change::Accept, Some(State::Incoming)) => (Some(State::Accepted), Some(Word::Agree)),
        (Change::Request, own @ Some(State::Outgoing | State::Accepted))
        | (Change::Accept, own @ Some(State::Accepted)) => (own, None),
        (Change::Accept, None | Some(State::Outgoing)) => return Err(Refused::NotFound),
        // A declined request gets no notice.
        (Change::Remove, None | Some(State::Incoming)) => (None, None),
        (Change::Remove, Some(State::Outgoing | State::Accepted)) => (None, Some(Word::End)),
    })
}

/// The effect of the other side's delivery on an account's row, and the reply.
fn told(word: Word, own: Option<State>) -> (Option<State>, Option<Word>) {
    match (word, own) {
        (Word::Ask, None | Some(State::Incoming)) => (Some(State::Incoming), None),
        (Word::Ask, Some(State::Outgoing | State::Accepted)) => (Some(State::Accepted), Some(Word::Agree)),
        (Word::Agree, Some(State::Outgoing)) => (Some(State::Accepted), None),
        (Word::End, Some(State::Incoming | State::Accepted)) => (None, None),
        (Word::Agree | Word::End, own) => (own, None),
    }
}

/// One of two accounts, with its row if it is of this server.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    pub did: &'a Did,
    pub account_id: Option<i64>,
}

/// The effects of a change, in the transaction that made it.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the account streams of those of this server.
    pub notices: Vec<Outgoing>,
    /// For the other side, where that is not of this server.
    pub word: Option<Word>,
}

/// Changes what stands between `own`, of this server, and `other`; both sides, if both are. What it is for `own` now.
pub async fn change(
    conn: &mut PgConnection,
    own: (i64, &Did),
    other: Side<'_>,
    change: Change,
    note: Option<&[u8]>,
    now: DateTime<Utc>,
) -> Result<Result<(Option<State>, Effects), Refused>, Error> {
    let mut effects = Effects::default();
    let me = Side { did: own.1, account_id: Some(own.0) };
    store::lock(conn, own.1, other.did).await?;
    let before = store::find(conn, own.0, other.did, now).await?;
    let (mut after, mut word) = match done(change, before) {
        Ok(outcome) => outcome,
        Err(refused) => return Ok(Err(refused)),
    };
    if before.is_none() && after.is_some() && store::count(conn, own.0, now).await? >= MOST {
        return Ok(Err(Refused::TooMany));
    }
    write(conn, me, other.did, (before, after), None, now, &mut effects).await?;
    if let (Some(said), Some(_)) = (word, other.account_id) {
        word = None;
        if let Some(back) = hear(conn, other, own.1, said, note, now, &mut effects).await? {
            let (answered, _) = told(back, after);
            write(conn, me, other.did, (after, answered), None, now, &mut effects).await?;
            after = answered;
        }
    }
    effects.word = word;
    Ok(Ok((after, effects)))
}

/// Applies the delivery of another server's account. `effects.word` is the reply.
pub async fn receive(
    conn: &mut PgConnection,
    to: (i64, &Did),
    from: &Did,
    word: Word,
    note: Option<&[u8]>,
    now: DateTime<Utc>,
) -> Result<Effects, Error> {
    let mut effects = Effects::default();
    store::lock(conn, to.1, from).await?;
    let side = Side { did: to.1, account_id: Some(to.0) };
    effects.word = hear(conn, side, from, word, note, now, &mut effects).await?;
    Ok(effects)
}

/// Ends the account's side of the relationship, without a notice to the other.
pub async fn forget(
    conn: &mut PgConnection,
    own: (i64, &Did),
    other: &Did,
    now: DateTime<Utc>,
) -> Result<Effects, Error> {
    let mut effects = Effects::default();
    store::lock(conn, own.1, other).await?;
    let before = store::find(conn, own.0, other, now).await?;
    let me = Side { did: own.1, account_id: Some(own.0) };
    write(conn, me, other, (before, None), None, now, &mut effects).await?;
    Ok(effects)
}

async fn hear(
    conn: &mut PgConnection,
    to: Side<'_>,
    from: &Did,
    word: Word,
    note: Option<&[u8]>,
    now: DateTime<Utc>,
    effects: &mut Effects,
) -> Result<Option<Word>, Error> {
    let Some(account_id) = to.account_id else { return Ok(None) };
    if store::is_blocked(conn, account_id, from).await? {
        return Ok(None);
    }
    let before = store::find(conn, account_id, from, now).await?;
    let (after, back) = told(word, before);
    write(conn, to, from, (before, after), note, now, effects).await?;
    if after == Some(State::Incoming) && before.is_none() {
        store::make_room(conn, account_id, MOST_INCOMING).await?;
    }
    Ok(back)
}

/// Writes one side's row, and the notice for its devices, if anything changed.
async fn write(
    conn: &mut PgConnection,
    side: Side<'_>,
    other: &Did,
    (before, after): (Option<State>, Option<State>),
    note: Option<&[u8]>,
    now: DateTime<Utc>,
    effects: &mut Effects,
) -> Result<(), Error> {
    let Some(account_id) = side.account_id.filter(|_| before != after) else { return Ok(()) };
    let expires_at = after.filter(|state| *state != State::Accepted).map(|_| now + OPEN);
    let note = note.filter(|_| after == Some(State::Incoming));
    match after {
        Some(state) => store::put(conn, account_id, other, state, note, expires_at, now).await?,
        None => store::delete(conn, account_id, other).await?,
    }
    let body = RelationshipBody {
        account: other.clone(),
        state: name(after).to_owned(),
        note: note.map(|note| Bytes(note.to_vec())),
    };
    let body = body.encode().map_err(|_| Error::Corrupt("#relationship body"))?;
    effects.notices.push(Outgoing { account_id, kind: EntryKind::Relationship, body });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Option<State>; 4] = [None, Some(State::Outgoing), Some(State::Incoming), Some(State::Accepted)];

    #[test]
    fn nobody_is_a_contact_by_the_other_sides_word_alone() {
        for word in [Word::Ask, Word::Agree, Word::End] {
            for own in [None, Some(State::Incoming)] {
                assert_ne!(told(word, own).0, Some(State::Accepted), "{word:?} to {own:?}");
            }
        }
    }

    #[test]
    fn two_who_ask_each_other_at_once_agree() {
        // Each asked before it heard.
        let (alice, answer) = told(Word::Ask, Some(State::Outgoing));
        assert_eq!((alice, answer), (Some(State::Accepted), Some(Word::Agree)));
        assert_eq!(told(Word::Agree, alice), (alice, None));
    }

    #[test]
    fn a_repeat_changes_nothing_and_tells_nothing() {
        for change in [Change::Request, Change::Accept, Change::Remove] {
            for own in STATES {
                let Ok((after, _)) = done(change, own) else { continue };
                assert_eq!(done(change, after), Ok((after, None)), "{change:?} from {own:?}");
            }
        }
    }

    #[test]
    fn a_declined_request_is_not_told_and_one_that_was_taken_back_is() {
        assert_eq!(done(Change::Remove, Some(State::Incoming)), Ok((None, None)));
        assert_eq!(done(Change::Remove, Some(State::Outgoing)), Ok((None, Some(Word::End))));
        assert_eq!(told(Word::End, Some(State::Outgoing)).0, Some(State::Outgoing), "its own request stays");
    }
}
