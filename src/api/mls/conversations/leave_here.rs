//! `blue.catbird.mls.leaveConvo` without the home: the account leaves on this server alone.
//!
//! Invariant: the answer names the last entry that this server holds, since no entry records the leave yet.

use crate::api::mls::access;
use crate::federation::joining::leaving::{self, Leaver};
use crate::lexicon::mls::leave_convo::{Error, LeaveConvo, Output};
use crate::log::StreamInfo;
use crate::types::{Bytes, Refusal};
use crate::xrpc::{Call, Device, Failure, Fault, Services, keep_answer, repeated_answer};

pub(super) async fn leave_here(
    cx: &Services,
    caller: &Device,
    call: &Call<LeaveConvo>,
    stream: &StreamInfo,
) -> Result<Output, Failure<Error>> {
    let author = &caller.author;
    let repeat = match repeated_answer(cx, author, call, &call.input.idem).await? {
        Ok(answer) => return Ok(answer),
        Err(repeat) => repeat,
    };
    let head = access::seated(cx, author, &call.input.stream).await?.head;
    let text = std::str::from_utf8(&call.body).map_err(Fault::internal)?;
    let leaver = Leaver { account_id: author.account_id, account: &author.did, device: &author.device };
    let answer = Output {
        term: head.term.0,
        seq: head.seq.0,
        hash: Bytes(head.hash.to_vec()),
        receipt: None,
        queued: Some(true),
    };
    let mut tx = cx.storage.begin().await?;
    if !leaving::leave(tx.conn(), leaver, stream, text, cx.clock.now()).await? {
        return Err(Refusal::new("NotMember", "the account's seat in this stream has ended").into());
    }
    keep_answer::<LeaveConvo>(tx.conn(), cx, author, &repeat, &answer).await?;
    tx.commit().await?;
    cx.log.wake_courier();
    cx.joining.wake();
    Ok(answer)
}
