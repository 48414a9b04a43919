//! `blue.catbird.mls.getConvos`: the conversations in which the account has an open seat, in pages.
//!
//! Invariant: a page holds at least one conversation, and no further one once its budget of bytes is spent.

use super::{store, view};
use crate::lexicon::mls::get_convos::{Error, GetConvos, Output};
use crate::types::Cursor;
use crate::xrpc::{Call, Device, Failure, Services, parse};

/// The budget of a page, in bytes of JSON.
const PAGE_BYTES: usize = 4 << 20;
/// Bytes of a conversation besides its members and its metadata.
const ROW_BYTES: usize = 1_024;

pub async fn get_convos(cx: &Services, caller: Device, call: Call<GetConvos>) -> Result<Output, Failure<Error>> {
    let after = match &call.params.cursor {
        Some(cursor) => parse(Cursor::parse, cursor)?.to_db(),
        None => 0,
    };
    let limit = i64::try_from(call.params.limit).unwrap_or(i64::MAX);

    // One more than asked for: the last page has no cursor.
    let mut rows =
        store::list_convos(cx.storage.pool(), caller.author.account_id, None, after, limit.saturating_add(1)).await?;

    let asked = rows.len();
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let sizes = store::roster_bytes(cx.storage.pool(), &ids).await?;
    rows.truncate(fitting(rows.iter().map(|row| {
        let metadata = row.metadata.as_ref().map_or(0, Vec::len);
        ROW_BYTES + metadata * 4 / 3 + sizes.get(&row.id).copied().unwrap_or_default()
    })));
    let more = rows.len() < asked;
    let cursor = rows.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Output { convos: view::views(cx, rows).await?, cursor })
}

/// The number of these sizes that make a page: at least one, and none that begins beyond the budget.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0_usize;
    let within = |size: &usize| {
        let begins = bytes;
        bytes = bytes.saturating_add(*size);
        begins == 0 || bytes <= PAGE_BYTES
    };
    sizes.take_while(within).count()
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES, fitting};

    #[test]
    fn a_page_holds_one_conversation_however_large_it_is() {
        assert_eq!(fitting([PAGE_BYTES * 2, 1].into_iter()), 1);
        assert_eq!(fitting([PAGE_BYTES / 2, PAGE_BYTES / 2, 1].into_iter()), 2);
        assert_eq!(fitting([1_000; 50].into_iter()), 50);
        assert_eq!(fitting(std::iter::empty()), 0);
    }
}
