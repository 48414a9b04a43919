//! `blue.catbird.peer.moveSeats`: an account lives on the calling server now.
//!
//! Invariant: only the server that the account's DID names moves its seats, and only to itself; what was not told to the
//! server before goes to the new one.

use super::store::{self, Seated};
use crate::federation::joining::{delivery, moves};
use crate::federation::replica::View;
use crate::federation::{Age, PeerRefused};
use crate::lexicon::peer::defs;
use crate::lexicon::peer::move_seats::{Error, MoveSeats, Output, Seat};
use crate::types::{Cursor, Did, Seq};
use crate::xrpc::{Call, Failure, Fault, Peer, Services, parse};

/// Seats of one page.
const PAGE: usize = 50;

pub async fn move_seats(cx: &Services, caller: Peer, call: Call<MoveSeats>) -> Result<Output, Failure<Error>> {
    let actor = caller.actor.as_ref().ok_or(Fault::Peer(PeerRefused::ActorRequired))?;
    let (account, server) = (&actor.account, &caller.server);
    // A move is not taken on the word of an hour ago.
    cx.federation.speaks_for(server, account, Age::First).await.map_err(Fault::from)?;
    let after = match &call.input.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };

    let only = call.input.streams.as_deref();
    let limit = i64::try_from(PAGE + 1).unwrap_or(i64::MAX);
    let mut found = store::list_seats(cx.storage.pool(), account, cx.log.home(), only, after, limit).await?;
    let more = found.len() > PAGE;
    found.truncate(PAGE);
    let cursor = found.last().filter(|_| more).map(|last| last.stream_id.to_string());

    let mut seats = Vec::with_capacity(found.len());
    for seat in found {
        if seat.server != server.as_str() {
            moves::move_seat(&cx.log, account, server, seat.stream_id).await?;
        }
        let view = view(cx, &seat).await?;
        seats.push(Seat { stream: seat.stream, from_seq: seat.from_seq, epoch: seat.epoch, view });
    }
    store::note_server(cx.storage.pool(), account, server).await?;
    let mut connection = cx.storage.pool().acquire().await?;
    delivery::redirect_account(&mut connection, account, server, cx.clock.now().to_datetime()).await?;
    cx.joining.wake();
    Ok(Output { seats, cursor })
}

/// The conversation just before the seat began.
async fn view(cx: &Services, seat: &Seated) -> Result<defs::View, Failure<Error>> {
    let before = store::before(cx.storage.pool(), seat.stream_id, Seq(seat.from_seq)).await?;
    let (home, servers) = (cx.log.home(), before.servers);
    let server = |account: &Did| servers.get(account).cloned().unwrap_or_else(|| home.clone());
    Ok(View::of(before.convo, &before.roster, server).into())
}
