//! `blue.catbird.mls.getConvo`: one conversation as its member sees it.
//!
//! Invariant: the roster shown is the roster in the log. For a caller without an open seat the stream does not exist.

use super::{store, view};
use crate::api::mls::access;
use crate::lexicon::mls::get_convo::{Error, GetConvo, Output};
use crate::log::stream_not_found;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_convo(cx: &Services, caller: Device, call: Call<GetConvo>) -> Result<Output, Failure<Error>> {
    let stream = access::find(cx, &call.params.stream).await?;

    let rows = store::list_convos(cx.storage.pool(), caller.author.account_id, Some(stream.id), 0, 1).await?;
    let convo = view::views(cx, rows).await?.pop().ok_or_else(stream_not_found)?;
    Ok(Output { convo })
}
