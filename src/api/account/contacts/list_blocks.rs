//! `blue.catbird.account.listBlocks`: the accounts that the account blocks.

use super::model::{certified, page};
use crate::federation::joining::consent;
use crate::lexicon::account::list_blocks::{Block, Error, ListBlocks, Output};
use crate::types::UnixMillis;
use crate::xrpc::{Call, Failure, ProvenDevice, Services};

pub async fn list_blocks(
    cx: &Services,
    ProvenDevice(caller): ProvenDevice,
    call: Call<ListBlocks>,
) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    let account_id = caller.author.account_id;
    let (after, limit) = (call.params.cursor.unwrap_or_default(), call.params.limit);

    let most = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
    let found = consent::blocks(cx.storage.pool(), account_id, &after, most).await?;

    let (found, cursor) = page(found, limit, |(other, _)| other);
    let shown = |(account, at)| Block { account, created_at: UnixMillis::from(at).to_rfc3339() };
    Ok(Output { blocks: found.into_iter().map(shown).collect(), cursor })
}
