//! `blue.catbird.mls.getKeyPackages`: the claimable packages of each certified device.
//!
//! Invariants: the query consumes no package, because prefetching clients would drain pools; an account that does not
//! let the caller see its devices gets the answer of an unknown account.

use super::store;
use crate::federation::joining::consent;
use crate::lexicon::mls::get_key_packages::{Account, Error, GetKeyPackages, Output};
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_key_packages(
    cx: &Services,
    caller: Device,
    call: Call<GetKeyPackages>,
) -> Result<Output, Failure<Error>> {
    let asked = call.params.accounts;
    let (now, seen_since) = (cx.clock.now().to_datetime(), cx.log.lapsed_before().to_datetime());
    let ids = store::account_ids(cx.storage.pool(), &asked).await?;
    let viewer = (caller.author.account_id, &caller.author.did);
    let mut conn = cx.storage.pool().acquire().await?;
    let visible = consent::visible(&mut conn, cx.config.identity.invitations, viewer, &ids).await?;
    drop(conn);
    let visible: Vec<i64> = visible.into_iter().collect();
    let found = store::list_available(cx.storage.pool(), &visible, seen_since, now).await?;

    let offered = |account: Did| {
        let found = found.iter().find(|offered| offered.account == account).cloned();
        found.unwrap_or(Account { account, devices: Vec::new() })
    };
    Ok(Output { accounts: asked.into_iter().map(offered).collect() })
}
