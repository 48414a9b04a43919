//! `blue.catbird.account.listDevices`: the account's own devices, revoked ones included.

use super::store;
use crate::lexicon::account::list_devices::{Error, ListDevices, Output};
use crate::xrpc::{AccountOrDevice, Call, Failure, Services};

pub async fn list_devices(
    cx: &Services,
    caller: AccountOrDevice,
    _: Call<ListDevices>,
) -> Result<Output, Failure<Error>> {
    let devices = match caller.account_id() {
        Some(account_id) => store::list_devices(cx.storage.pool(), account_id).await?,
        None => Vec::new(),
    };
    Ok(Output { devices })
}
