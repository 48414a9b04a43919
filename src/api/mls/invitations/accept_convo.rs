//! `blue.catbird.mls.acceptConvo`: the person takes an invitation. A repeat says yes.

use crate::api::mls::access;
use crate::federation::joining::invitation::{self, State};
use crate::lexicon::mls::accept_convo::{AcceptConvo, Error, Output};
use crate::log;
use crate::storage;
use crate::types::StreamId;
use crate::xrpc::{Call, Device, Failure, Services, parse};

pub async fn accept_convo(cx: &Services, caller: Device, call: Call<AcceptConvo>) -> Result<Output, Failure<Error>> {
    access::certified(&caller)?;
    let stream = parse(StreamId::parse, &call.input.stream)?;

    storage::retrying(Failure::is_collision, || accept(cx, &caller, &stream)).await?;
    cx.log.wake_courier();
    cx.joining.wake();
    Ok(Output {})
}

async fn accept(cx: &Services, caller: &Device, stream: &StreamId) -> Result<(), Failure<Error>> {
    let (account_id, now) = (caller.author.account_id, cx.clock.now());
    let mut tx = cx.storage.begin().await?;
    let found = invitation::find_for_update(tx.conn(), account_id, stream).await?;
    match found {
        Some(invitation) if invitation.state == State::Waiting => {
            let is_here = invitation.home == *cx.log.home();
            let notices =
                invitation::take(tx.conn(), account_id, stream, &invitation, is_here, now.to_datetime()).await?;
            log::queue(tx.conn(), &notices, now).await?;
            Ok(tx.commit().await?)
        }
        Some(invitation) if invitation.state != State::Passed => Ok(()),
        _ => Err(Failure::Named(Error::InvitationNotFound("no invitation to this conversation waits".into()))),
    }
}
