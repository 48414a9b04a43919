//! `blue.catbird.mls.removeMembers`: a commit that removes at least one device.

use super::intake::{Bundle, intake};
use crate::lexicon::mls::remove_members::{Error, Output, RemoveMembers};
use crate::types::Bytes;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn remove_members(
    cx: &Services,
    caller: Device,
    call: Call<RemoveMembers>,
) -> Result<Output, Failure<Error>> {
    let identity = call.identity(&caller.author, &call.input.idem)?;
    let input = call.input;
    let bundle = Bundle {
        stream: input.stream,
        identity,
        commit: input.commit,
        group_info: input.group_info,
        welcome: input.welcome,
        adds: input.adds.unwrap_or_default(),
        removes: input.removes,
    };

    let (accepted, epoch) = intake(cx, &caller, bundle).await?;
    let hash = Bytes(accepted.hash.to_vec());
    Ok(Output { term: accepted.term.0, seq: accepted.seq.0, hash, epoch: epoch.0, receipt: None })
}
