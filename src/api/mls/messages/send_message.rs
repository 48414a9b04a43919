//! `blue.catbird.mls.sendMessage`: appends one encrypted application message to a conversation.
//!
//! Invariants: the answer is given after the commit; the same call repeated gets the same answer, also after the epoch
//! moved on or the seat ended; group id and epoch are those of the MLS header. The server never sees who wrote it in
//! the entry that others read.

use crate::api::mls::access;
use crate::lexicon::mls::send_message::{Error, Output, SendMessage};
use crate::log::Application;
use crate::mls::framing;
use crate::types::{Bytes, Refusal};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn send_message(cx: &Services, caller: Device, call: Call<SendMessage>) -> Result<Output, Failure<Error>> {
    let identity = call.identity(&caller.author, &call.input.idem)?;
    let header = framing::application(call.input.ciphertext.as_slice())?;
    let stream = access::find(cx, &call.input.stream).await?;
    let group = access::group::<Error>(cx, &stream).await?;

    if header.group_id != group.group_id {
        // Before the seat is judged: a caller must not be able to guess the group of a stream that it cannot see.
        access::readable::<Error>(cx, &caller.author, &call.input.stream).await?;
        return Err(Refusal::new("GroupIdMismatch", "the message is for another group than this stream's").into());
    }

    let body = call.input.ciphertext.0;
    let message = Application { stream, author: caller.author, identity, epoch: header.epoch, body };
    let accepted = cx.log.submit(message).await?;
    Ok(Output { term: accepted.term.0, seq: accepted.seq.0, hash: Bytes(accepted.hash.to_vec()), receipt: None })
}
