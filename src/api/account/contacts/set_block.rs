//! `blue.catbird.account.setBlock`: blocks another account, or ends the block. No account is notified.

use super::model::may_change;
use crate::federation::joining::consent;
use crate::lexicon::account::set_block::{Error, Output, SetBlock};
use crate::log;
use crate::storage;
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn set_block(cx: &Services, caller: Device, call: Call<SetBlock>) -> Result<Output, Failure<Error>> {
    let (other, blocked) = (&call.input.account, call.input.blocked);
    may_change(&caller, other)?;

    storage::retrying(Failure::is_collision, || set(cx, &caller, other, blocked)).await?;
    cx.log.wake_courier();
    Ok(Output {})
}

async fn set(cx: &Services, caller: &Device, other: &Did, blocked: bool) -> Result<(), Failure<Error>> {
    let (account_id, now) = (caller.author.account_id, cx.clock.now());
    let mut tx = cx.storage.begin().await?;
    if blocked {
        let ended = consent::block(tx.conn(), (account_id, &caller.author.did), other, now.to_datetime()).await?;
        let too_many = || Failure::Named(Error::TooManyBlocks("the account blocks 10,000 others".into()));
        let ended = ended.ok_or_else(too_many)?;
        log::queue(tx.conn(), &ended.notices, now).await?;
    } else {
        consent::unblock(tx.conn(), account_id, other).await?;
    }
    tx.commit().await?;
    Ok(())
}
