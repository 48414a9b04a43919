//! `blue.catbird.mls.addMembers`: a commit that adds at least one device.

use super::intake::{Bundle, intake};
use crate::lexicon::mls::add_members::{AddMembers, Error, Output};
use crate::types::Bytes;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn add_members(cx: &Services, caller: Device, call: Call<AddMembers>) -> Result<Output, Failure<Error>> {
    let identity = call.identity(&caller.author, &call.input.idem)?;
    let input = call.input;
    let bundle = Bundle {
        stream: input.stream,
        identity,
        commit: input.commit,
        group_info: input.group_info,
        welcome: Some(input.welcome),
        adds: input.adds,
        removes: input.removes.unwrap_or_default(),
    };

    let (accepted, epoch) = intake(cx, &caller, bundle).await?;
    let hash = Bytes(accepted.hash.to_vec());
    Ok(Output { term: accepted.term.0, seq: accepted.seq.0, hash, epoch: epoch.0, receipt: None })
}
