//! `blue.catbird.mls.getKeyPackages`: what could be claimed for each certified device.
//!
//! Invariant: it consumes nothing. A query that did would drain pools by prefetching.

use super::store;
use crate::lexicon::mls::get_key_packages::{Error, GetKeyPackages, Output};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_key_packages(cx: &Services, _: Device, call: Call<GetKeyPackages>) -> Result<Output, Failure<Error>> {
    let accounts = call.params.accounts;
    let accounts = store::list_available(cx.storage.pool(), &accounts, cx.clock.now().to_datetime()).await?;
    Ok(Output { accounts })
}
