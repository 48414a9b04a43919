//! `blue.catbird.mls.getKeyPackageStatus`: how full the calling device's own pools are.

use super::store;
use crate::lexicon::mls::get_key_package_status::{Error, GetKeyPackageStatus, Output};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_key_package_status(
    cx: &Services,
    caller: Device,
    _: Call<GetKeyPackageStatus>,
) -> Result<Output, Failure<Error>> {
    let now = cx.clock.now().to_datetime();
    let pools = store::list_pools(cx.storage.pool(), caller.author.device_row, now).await?;
    Ok(Output { pools })
}
