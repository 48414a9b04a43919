//! `blue.catbird.mls.publishKeyPackage`: adds one key package to the calling device's pool.

use super::publish::{Problem, publish};
use crate::api::mls::store::signature_keys;
use crate::lexicon::mls::publish_key_package::{Error, Output, PublishKeyPackage};
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn publish_key_package(
    cx: &Services,
    caller: Device,
    call: Call<PublishKeyPackage>,
) -> Result<Output, Failure<Error>> {
    let keys = signature_keys(cx.storage.pool(), caller.author.device_row).await?;
    match publish(cx, &caller, &keys, call.input.key_package).await {
        Ok(published) => Ok(published),
        Err(Problem::Refused(refusal)) => Err(refusal.into()),
        Err(Problem::Fault(fault)) => Err(fault.into()),
    }
}
