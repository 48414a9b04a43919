//! Conversations that an account was brought into and has not taken.
//!
//! Invariants: what waits for the person shows nothing but that it waits; at most 50 wait for an account, and a new one
//! pushes out the oldest; its sender does not learn its outcome.

mod store;

use chrono::{DateTime, Utc};

use super::seating;
use crate::log::body::{Body, InvitationBody, WelcomeBody};
use crate::log::{EntryKind, Outgoing};
use crate::storage::{Error, PgConnection};
use crate::types::{Did, Seq, StreamId};

pub use store::{Waiting, clear, list_waiting};

/// Invitations that wait for one account.
const MOST: i64 = 50;

/// The state of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// For the person.
    Waiting,
    /// Taken, and its stream is to be followed.
    Joining,
    Taken,
    /// Declined, pushed out, or of an account that was blocked.
    Passed,
}

impl State {
    const fn to_db(self) -> i16 {
        match self {
            Self::Waiting => 1,
            Self::Joining => 2,
            Self::Taken => 3,
            Self::Passed => 4,
        }
    }

    fn from_db(value: i16) -> Option<Self> {
        [Self::Waiting, Self::Joining, Self::Taken, Self::Passed].into_iter().find(|state| state.to_db() == value)
    }
}

/// An invitation as it is held.
#[derive(Clone, Debug)]
pub struct Invitation {
    pub id: i64,
    pub home: Did,
    pub inviter: Option<Did>,
    pub state: State,
}

/// A new one.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    pub account_id: i64,
    pub stream: &'a StreamId,
    pub home: &'a Did,
    pub inviter: Option<&'a Did>,
    /// The offer that another home delivered.
    pub offer: Option<&'a [u8]>,
    /// The entry that added the devices which it is for.
    pub from_seq: Seq,
    /// Waiting or joining.
    pub state: State,
}

/// Holds an invitation, and answers the notice of it. It takes the place of what is over; what another home delivered for
/// other devices waits beside it.
pub async fn hold(conn: &mut PgConnection, new: &New<'_>, now: DateTime<Utc>) -> Result<Outgoing, Error> {
    store::clear_old(conn, new.stream.as_str(), new.account_id, new.offer.is_some()).await?;
    store::insert(conn, new, now).await?;
    store::make_room(conn, new.account_id, MOST).await?;
    let state = if new.state == State::Waiting { "waiting" } else { "accepted" };
    notice(new.account_id, new.stream, new.home, new.inviter, state)
}

/// The newest one of this account to this stream, locked.
pub async fn find_for_update(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &StreamId,
) -> Result<Option<Invitation>, Error> {
    store::find_for_update(conn, account_id, stream.as_str()).await
}

/// The person takes it. One of this server's own streams appears with its Welcome; one of another home is followed first.
pub async fn take(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &StreamId,
    invitation: &Invitation,
    is_here: bool,
    now: DateTime<Utc>,
) -> Result<Vec<Outgoing>, Error> {
    let mut notices = vec![notice(account_id, stream, &invitation.home, invitation.inviter.as_ref(), "accepted")?];
    if is_here {
        store::set_state(conn, account_id, stream.as_str(), State::Taken, now).await?;
        seating::show_seat(conn, account_id, stream.as_str()).await?;
        let released = store::release_welcomes(conn, account_id, stream.as_str()).await?;
        if !released.is_empty() {
            let (device, refs) = released.into_iter().unzip();
            let body = WelcomeBody { stream: stream.clone(), device, refs }.encode();
            let body = body.map_err(|_| Error::Corrupt("#welcome body"))?;
            notices.push(Outgoing { account_id, kind: EntryKind::Welcome, body });
        }
    } else {
        store::set_state(conn, account_id, stream.as_str(), State::Joining, now).await?;
    }
    Ok(notices)
}

/// Whatever another home delivered for this stream is to be followed.
pub async fn join(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &StreamId,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    store::set_state(conn, account_id, stream.as_str(), State::Joining, now).await
}

/// The person passes over it.
pub async fn pass(
    conn: &mut PgConnection,
    account_id: i64,
    stream: &StreamId,
    invitation: &Invitation,
    now: DateTime<Utc>,
) -> Result<Outgoing, Error> {
    store::set_state(conn, account_id, stream.as_str(), State::Passed, now).await?;
    notice(account_id, stream, &invitation.home, invitation.inviter.as_ref(), "declined")
}

fn notice(
    account_id: i64,
    stream: &StreamId,
    home: &Did,
    inviter: Option<&Did>,
    state: &str,
) -> Result<Outgoing, Error> {
    let body = InvitationBody {
        stream: stream.clone(),
        home: home.clone(),
        inviter: inviter.cloned(),
        state: state.to_owned(),
    };
    let body = body.encode().map_err(|_| Error::Corrupt("#invitation body"))?;
    Ok(Outgoing { account_id, kind: EntryKind::Invitation, body })
}
