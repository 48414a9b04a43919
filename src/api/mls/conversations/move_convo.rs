//! `blue.catbird.mls.moveConvo`: an admin hands the conversation to another server.
//!
//! Invariant: one entry is the move; until it stands, whatever fails leaves everything as it was.

use crate::api::mls::access;
use crate::federation::replica::{HandError, Order};
use crate::lexicon::mls::move_convo::{Error, MoveConvo, Output};
use crate::log::Accepted;
use crate::log::body::Role;
use crate::types::{Bytes, Refusal};
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn move_convo(cx: &Services, caller: Device, call: Call<MoveConvo>) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    let identity = call.identity(&caller.author, &call.input.idem)?;
    let stream = access::find(cx, &call.input.stream).await?;
    if let Some(first) = cx.log.repeated(stream.id, &identity).await? {
        return Ok(answer(&first));
    }
    access::seated(cx, &caller.author, &call.input.stream).await?;
    let roster = cx.log.roster(stream.id).await?;
    if roster.seats.get(&caller.author.did).is_none_or(|seat| seat.role != Role::Admin) {
        return Err(Refusal::new("NotAuthorized", "only an admin moves a conversation").into());
    }
    let order = Order { stream_id: stream.id, to: call.input.to, author: caller.author, identity };
    let moved = cx.replicas.hand_over(order).await.map_err(|error| match error {
        HandError::Refused(refusal) => refusal.into(),
        HandError::Unreached => Failure::Fault(Fault::Unavailable),
        HandError::Log(error) => error.into(),
    })?;
    Ok(answer(&moved))
}

fn answer(entry: &Accepted) -> Output {
    Output { term: entry.term.0, seq: entry.seq.0, hash: Bytes(entry.hash.to_vec()), receipt: None }
}
