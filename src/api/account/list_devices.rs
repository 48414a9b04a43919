//! `blue.catbird.account.listDevices`: the account's own devices, revoked ones included, with the links of its chain.

use super::{chain, store};
use crate::lexicon::account::defs::Chain;
use crate::lexicon::account::list_devices::{Error, ListDevices, Output};
use crate::types::Bytes;
use crate::xrpc::{AccountOrDevice, Call, Failure, Services};

pub async fn list_devices(
    cx: &Services,
    caller: AccountOrDevice,
    _: Call<ListDevices>,
) -> Result<Output, Failure<Error>> {
    let Some(account_id) = caller.account_id() else {
        return Ok(Output { devices: Vec::new(), chain: None });
    };
    // First: a chain that grows meanwhile still went through this head.
    let head = chain::store::find_head(cx.storage.pool(), account_id).await?;
    let chain = head.map(|head| Chain {
        generation: u64::from(head.generation),
        seq: head.seq,
        hash: Bytes(head.hash.to_vec()),
    });
    Ok(Output { devices: store::list_devices(cx.storage.pool(), account_id).await?, chain })
}
