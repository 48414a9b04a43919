//! `blue.catbird.account.listBlocks`: whom the account blocks.

use super::model::page;
use crate::federation::joining::consent;
use crate::lexicon::account::list_blocks::{Block, Error, ListBlocks, Output};
use crate::types::UnixMillis;
use crate::xrpc::{AccountOrDevice, Call, Failure, Services};

pub async fn list_blocks(
    cx: &Services,
    caller: AccountOrDevice,
    call: Call<ListBlocks>,
) -> Result<Output, Failure<Error>> {
    let Some(account_id) = caller.account_id() else {
        return Ok(Output { blocks: Vec::new(), cursor: None });
    };
    let (after, limit) = (call.params.cursor.unwrap_or_default(), call.params.limit);

    let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let found = consent::blocks(cx.storage.pool(), account_id, &after, most).await?;

    let (found, cursor) = page(found, limit, |(other, _)| other);
    let shown = |(account, at)| Block { account, created_at: UnixMillis::from(at).to_rfc3339() };
    Ok(Output { blocks: found.into_iter().map(shown).collect(), cursor })
}
