//! `blue.catbird.mls.publishKeyPackages`: adds up to 100 key packages, each judged for itself.
//!
//! Invariant: one refused package never fails its neighbours; the results stand in the order of the input.

use super::publish::{Problem, publish};
use crate::api::mls::store::signature_keys;
use crate::lexicon::mls::publish_key_packages::{Error, Output, PublishKeyPackages, PublishKeyPackagesResult};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn publish_key_packages(
    cx: &Services,
    caller: Device,
    call: Call<PublishKeyPackages>,
) -> Result<Output, Failure<Error>> {
    let keys = signature_keys(cx.storage.pool(), caller.author.device_row).await?;
    let mut results = Vec::with_capacity(call.input.key_packages.len());
    for bytes in call.input.key_packages {
        results.push(match publish(cx, &caller, &keys, bytes).await {
            Ok(published) => PublishKeyPackagesResult { published: Some(published), error: None, message: None },
            Err(Problem::Refused(refusal)) => PublishKeyPackagesResult {
                published: None,
                error: Some(refusal.name.to_owned()),
                message: Some(refusal.detail.message),
            },
            Err(Problem::Fault(fault)) => return Err(fault.into()),
        });
    }
    Ok(Output { results })
}
