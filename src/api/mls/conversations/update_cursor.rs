//! `blue.catbird.mls.updateCursor`: how far the account has read.
//!
//! Invariant: the position only moves forward, and not beyond what the account may read. A row, never an entry; the
//! account's other devices hear of each call by an ephemeral event.

use serde::Serialize;

use crate::api::mls::access;
use crate::lexicon::mls::update_cursor::{Error, Output, UpdateCursor};
use crate::log::Signal;
use crate::types::{Seq, StreamId};
use crate::xrpc::{Call, Device, Failure, Services};

#[derive(Serialize)]
struct ReadTo<'a> {
    stream: &'a StreamId,
    seq: Seq,
}

pub async fn update_cursor(cx: &Services, caller: Device, call: Call<UpdateCursor>) -> Result<Output, Failure<Error>> {
    let author = &caller.author;
    let readable = access::readable(cx, author, &call.input.stream).await?;
    let seq = Seq(call.input.seq).min(readable.head.seq);

    let now = cx.clock.now().to_datetime();
    let seq = cx.read_positions.advance(author.account_id, readable.stream.id, seq, now).await?;

    let stream = &readable.stream.public_id;
    let signal = Signal::new("#cursor", &ReadTo { stream, seq })?;
    cx.log.hub().signal(author.account_id, Some(author.device_row), stream, signal);
    Ok(Output { seq: seq.0 })
}
