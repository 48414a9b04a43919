//! `blue.catbird.event.getTicket`: a token for clients that cannot send a header.
//!
//! Invariant: the server keeps the ticket's hash alone, and a ticket is good for one call of one method.

use crate::lexicon::event::get_ticket::{Error, GetTicket, Output};
use crate::xrpc::{Call, Device, Failure, Services, ticket};

pub async fn get_ticket(cx: &Services, caller: Device, call: Call<GetTicket>) -> Result<Output, Failure<Error>> {
    let (ticket, expires_at) = ticket::issue(cx, caller.author.device_row, &call.input.lxm).await?;
    Ok(Output { ticket, expires_at: expires_at.to_rfc3339() })
}
