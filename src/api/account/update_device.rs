//! `blue.catbird.account.updateDevice`: the calling device's own name and platform. No account is notified: listDevices
//! shows the change.

use super::store;
use crate::lexicon::account::update_device::{Error, Output, UpdateDevice};
use crate::types::Bytes;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn update_device(cx: &Services, caller: Device, call: Call<UpdateDevice>) -> Result<Output, Failure<Error>> {
    let name = call.input.name.as_ref().map(Bytes::as_slice);
    store::update_device(cx.storage.pool(), caller.author.device_row, name, call.input.platform.as_deref()).await?;
    Ok(Output {})
}
