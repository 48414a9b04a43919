//! `blue.catbird.mls.getWelcomes`: the Welcomes that wait for this device, oldest first.
//!
//! Invariant: right from the commit on, before any notice of it was delivered. A page stays below the 8 MiB that a PDS
//! lets through.

use super::store;
use crate::lexicon::mls::get_welcomes::{Error, GetWelcomes, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Device, Failure, Services, parse};

/// Bytes of Welcomes in one page; the first is given whatever its size (2 MiB at most).
const PAGE_BYTES: i64 = 4 << 20;

pub async fn get_welcomes(cx: &Services, caller: Device, call: Call<GetWelcomes>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    let page = store::list_waiting(cx.storage.pool(), caller.author.device_row, after, limit, PAGE_BYTES).await?;

    let cursor = page.welcomes.last().filter(|_| page.more).map(|last| last.id.clone());
    Ok(Output { welcomes: page.welcomes, cursor })
}
