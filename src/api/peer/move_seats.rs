//! `blue.catbird.peer.moveSeats`: an account lives on the calling server now.
//!
//! Invariant: only the server that the account's DID names moves its seats, and only to itself; undelivered notices of
//! the former server go to the new one.

use super::store;
use crate::federation::joining::{delivery, moves};
use crate::federation::{Age, PeerRefused};
use crate::lexicon::peer::defs;
use crate::lexicon::peer::move_seats::{Error, MoveSeats, Output, Seat};
use crate::types::{Cursor, Seq};
use crate::xrpc::{Call, Failure, Fault, Peer, Services, parse};

/// Seats of one page, and bytes of JSON after which the page takes no further seat: the answer stays below 8 MiB.
const PAGE: usize = 50;
const PAGE_BYTES: usize = 4 << 20;

pub async fn move_seats(cx: &Services, caller: Peer, call: Call<MoveSeats>) -> Result<Output, Failure<Error>> {
    let actor = caller.actor.as_ref().ok_or(Fault::Peer(PeerRefused::ActorRequired))?;
    let (account, server) = (&actor.account, &caller.server);
    // A cached location of an hour ago does not decide a move.
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
    let mut last = found.last().filter(|_| more).map(|last| last.stream_id);

    let (mut seats, mut bytes) = (Vec::with_capacity(found.len()), 0);
    let mut found = found.into_iter().peekable();
    while let Some(seat) = found.next() {
        if seat.server != server.as_str() {
            moves::move_seat(&cx.log, account, server, seat.stream_id).await?;
        }
        let view: defs::View = cx.replicas.view_before(seat.stream_id, Seq(seat.from_seq)).await?.into();
        bytes += serde_json::to_vec(&view).map_err(Fault::internal)?.len();
        seats.push(Seat { stream: seat.stream, from_seq: seat.from_seq, epoch: seat.epoch, view });
        if bytes > PAGE_BYTES && found.peek().is_some() {
            last = Some(seat.stream_id);
            break;
        }
    }
    store::note_server(cx.storage.pool(), account, server).await?;
    let mut connection = cx.storage.pool().acquire().await?;
    delivery::redirect_account(&mut connection, account, server, cx.clock.now().to_datetime()).await?;
    cx.joining.wake();
    Ok(Output { seats, cursor: last.map(|last| last.to_string()) })
}
