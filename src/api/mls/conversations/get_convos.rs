//! `blue.catbird.mls.getConvos`: the conversations in which the account has an open seat, in pages.

use super::{store, view};
use crate::lexicon::mls::get_convos::{Error, GetConvos, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Device, Failure, Services, parse};

pub async fn get_convos(cx: &Services, caller: Device, call: Call<GetConvos>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    // One more than asked for: the last page has no cursor.
    let mut rows =
        store::list_convos(cx.storage.pool(), caller.author.account_id, None, after, limit.saturating_add(1)).await?;

    let more = i64::try_from(rows.len()).is_ok_and(|rows| rows > limit);
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let cursor = rows.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Output { convos: view::views(cx, rows).await?, cursor })
}
