//! `blue.catbird.account.getUsage`: how much the account and its domain make this server keep, and how much they may.

use crate::lexicon::account::get_usage::{Error, GetUsage, Output, Quota};
use crate::xrpc::{AccountOrDevice, Call, Failure, Services};

pub async fn get_usage(cx: &Services, caller: AccountOrDevice, _: Call<GetUsage>) -> Result<Output, Failure<Error>> {
    let Some(account_id) = caller.account_id() else { return Ok(Output { quotas: Vec::new() }) };
    let usage = cx.quotas.usage(account_id).await?;
    let quotas = usage.into_iter().map(|usage| Quota {
        name: usage.quota.name().to_owned(),
        used: usage.used,
        limit: usage.limit,
    });
    Ok(Output { quotas: quotas.collect() })
}
