//! `blue.catbird.mls.ackWelcome`: the device joined by a Welcome, or could not. A repeat says yes.

use super::store;
use crate::lexicon::mls::ack_welcome::{AckWelcome, Error, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Device, Failure, Services, parse};

pub async fn ack_welcome(cx: &Services, caller: Device, call: Call<AckWelcome>) -> Result<Output, Failure<Error>> {
    let id = parse(Cursor::parse, &call.input.id)?.to_db();
    let state = if call.input.accepted { "accepted" } else { "rejected" };
    let now = cx.clock.now().to_datetime();

    let reason = call.input.reason.as_deref();
    if store::acknowledge(cx.storage.pool(), id, caller.author.device_row, state, reason, now).await? {
        Ok(Output {})
    } else {
        Err(Failure::Named(Error::WelcomeNotFound("this device has no such Welcome".into())))
    }
}
