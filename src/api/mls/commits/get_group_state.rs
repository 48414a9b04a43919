//! `blue.catbird.mls.getGroupState`: the current epoch with its GroupInfo, for accounts with a seat.

use super::store;
use crate::api::mls::access;
use crate::lexicon::event::defs::Head;
use crate::lexicon::mls::get_group_state::{Error, GetGroupState, Output};
use crate::types::Bytes;
use crate::xrpc::{Call, Device, Failure, Services};

pub async fn get_group_state(
    cx: &Services,
    caller: Device,
    call: Call<GetGroupState>,
) -> Result<Output, Failure<Error>> {
    let readable = access::seated(cx, &caller.author, &call.params.stream).await?;
    let row = cx.log.row(readable.stream.id).await?;
    let unchanged = call.params.if_not == Some(row.epoch.0);

    let group_info = if unchanged {
        None
    } else {
        let found = store::find_group_info(cx.storage.pool(), readable.stream.id, row.epoch).await?;
        let missing = || Error::GroupInfoUnavailable("the next commit will bring one".into());
        Some(Bytes(found.ok_or_else(missing).map_err(Failure::Named)?))
    };

    let head = Head { term: row.term.0, seq: row.head_seq.0, hash: Bytes(row.head_hash.to_vec()) };
    Ok(Output { epoch: row.epoch.0, unchanged, group_info, pending_proposals: Vec::new(), head })
}
