//! `blue.catbird.mls.getKeyPackages`: what could be claimed for each certified device.
//!
//! Invariant: it consumes nothing. A query that did would drain pools by prefetching.

use super::store;
use crate::lexicon::mls::get_key_packages::{Account, Error, GetKeyPackages, Output};
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_key_packages(cx: &Services, _: Device, call: Call<GetKeyPackages>) -> Result<Output, Failure<Error>> {
    let asked = call.params.accounts;
    let (now, seen_since) = (cx.clock.now().to_datetime(), cx.log.lapsed_before().to_datetime());
    let found = store::list_available(cx.storage.pool(), &asked, seen_since, now).await?;

    let offered = |account: Did| {
        let found = found.iter().find(|offered| offered.account == account).cloned();
        found.unwrap_or(Account { account, devices: Vec::new() })
    };
    Ok(Output { accounts: asked.into_iter().map(offered).collect() })
}
