//! Accounts that moved here from another server.
//!
//! Invariant: only the account's new server notifies a home, which looks the account up before it acts; a repeated
//! notice moves no seat twice.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::Joining;
use super::delivery::{self, Delivery, MOVE_SEATS};
use super::invitation::{self, New, State};
use super::offer::Offer;
use super::whereabouts;
use crate::federation::{Actor, CallError};
use crate::lexicon::peer::move_seats::{Input, MoveSeats, Seat};
use crate::log::body::{Body, MembershipBody, MembershipChange};
use crate::log::{self, Draft, EntryKind, Log};
use crate::storage::{self, Error, PgConnection, PgPool};
use crate::types::{Did, Seq, StreamId, UnixMillis};

/// The most pages of one home: a page may hold a single large conversation.
const PAGES: usize = 5_000;

/// An announcement to a home that the account lives here now, for all its seats or for those in these streams.
#[derive(Clone, Debug)]
pub struct Announcement {
    pub home: Did,
    body: Value,
}

impl Announcement {
    pub fn new(home: Did, streams: Option<&[String]>) -> Self {
        Self { home, body: json!({ "streams": streams }) }
    }
}

/// The announcements that were not made within the last day.
pub async fn unannounced(
    pool: &PgPool,
    account: &Did,
    mut announcements: Vec<Announcement>,
    now: UnixMillis,
) -> Result<Vec<Announcement>, Error> {
    let homes: Vec<&str> = announcements.iter().map(|one| one.home.as_str()).collect();
    let bodies: Vec<Value> = announcements.iter().map(|one| one.body.clone()).collect();
    let since = now.to_datetime() - TimeDelta::days(1);
    let made = delivery::announced(pool, account, &homes, &bodies, since).await?;
    announcements.retain(|one| made.iter().all(|home| home != one.home.as_str()));
    Ok(announcements)
}

/// Queues the announcements to their homes.
pub async fn announce(
    conn: &mut PgConnection,
    (account_id, account): (i64, &Did),
    announcements: &[Announcement],
    now: UnixMillis,
) -> Result<(), Error> {
    let (sender, to, kind) = (Some(account_id), account, MOVE_SEATS);
    let mut deliveries = Vec::with_capacity(announcements.len());
    for Announcement { home, body } in announcements {
        deliveries.push(Delivery {
            sender,
            server: home,
            to,
            kind,
            body: body.clone(),
            stream_id: None,
            welcome: None,
        });
    }
    delivery::queue(conn, &deliveries, now).await
}

/// Says in one of this home's streams that the account's seat is spoken for by `server` from here on. Once is enough.
pub async fn move_seat(log: &Log, account: &Did, server: &Did, stream_id: i64) -> Result<(), log::Error> {
    storage::retrying(log::Error::is_collision, || move_once(log, account, server, stream_id)).await
}

async fn move_once(log: &Log, account: &Did, server: &Did, stream_id: i64) -> Result<(), log::Error> {
    let mut tx = log.lock(stream_id).await?;
    let held = tx.roster().await?.seats.get(account).map(|seat| seat.server.clone());
    if held.is_none_or(|held| held == server.as_str()) {
        return Ok(());
    }
    let by = tx.on_behalf(account).await?;
    let (change, server) = (MembershipChange::Moved, Some(server.to_string()));
    let body = MembershipBody { account: account.clone(), change, role: None, server }.encode()?;
    tx.append(&by, Draft { kind: EntryKind::Membership, epoch: None, body, identity: None }).await?;
    tx.commit().await
}

/// Why a home was not notified.
pub(super) enum Untold {
    Call(CallError),
    Log(log::Error),
}

/// Tells a home, and takes over what it answers: each stream is followed from where the seat begins.
pub(super) async fn tell(joining: &Joining, home: &Did, account: &Did, mut input: Input) -> Result<(), Untold> {
    let federation = &joining.inner.federation;
    for _ in 0..PAGES {
        let actor = Actor { account, device: None };
        let page = federation.procedure::<MoveSeats>(home, &input, Some(actor)).await.map_err(Untold::Call)?;
        for seat in page.seats {
            take_over(joining, home, account, seat).await.map_err(Untold::Log)?;
        }
        match page.cursor {
            Some(cursor) => input.cursor = Some(cursor),
            None => break,
        }
    }
    joining.wake();
    Ok(())
}

async fn take_over(joining: &Joining, home: &Did, account: &Did, seat: Seat) -> Result<(), log::Error> {
    let Ok(stream) = StreamId::parse(&seat.stream) else { return Ok(()) };
    let offer = Offer {
        stream,
        home: home.clone(),
        from_seq: Seq(seat.from_seq),
        epoch: seat.epoch,
        view: seat.view,
        refs: Vec::new(),
        welcome: None,
    };
    let now = joining.log().clock().now().to_datetime();
    let mut tx = joining.log().storage().begin().await?;
    let Some(account_id) = whereabouts::find_local(tx.conn(), account).await? else { return Ok(()) };
    let bytes = serde_json::to_vec(&offer).map_err(|_| Error::Corrupt("an offer"))?;
    let (stream, from_seq, offer) = (&offer.stream, offer.from_seq, Some(bytes.as_slice()));
    // The server took this conversation long ago: it notifies no account again.
    let new = New { account_id, stream, home, inviter: None, offer, from_seq, state: State::Joining };
    invitation::hold(tx.conn(), &new, now).await?;
    Ok(tx.commit().await?)
}
