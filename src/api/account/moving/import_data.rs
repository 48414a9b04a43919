//! `blue.catbird.account.importData`: takes what the account brings, and tells the homes of its seats.
//!
//! Invariants: what is here already stays, so that a repeat changes nothing; the homes find out by themselves whether it
//! is so.

use std::collections::BTreeMap;

use super::store;
use crate::api::account::contacts::certified;
use crate::federation::joining::{consent, moves};
use crate::lexicon::account::import_data::{Error, ImportData, Input, Output};
use crate::storage;
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn import_data(cx: &Services, caller: Device, call: Call<ImportData>) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    // Of this home's own streams nobody needs to be told.
    for stream_id in store::seats_elsewhere(cx.storage.pool(), caller.author.account_id, cx.log.home()).await? {
        moves::move_seat(&cx.log, &caller.author.did, cx.log.home(), stream_id).await?;
    }
    let waiting = storage::retrying(Failure::is_collision, || import(cx, &caller, &call.input)).await?;
    cx.joining.wake();
    Ok(Output { waiting })
}

async fn import(cx: &Services, caller: &Device, input: &Input) -> Result<Vec<String>, Failure<Error>> {
    let (account_id, account, now) = (caller.author.account_id, &caller.author.did, cx.clock.now());
    let mut tx = cx.storage.begin().await?;
    if let Some(said) = &input.invitations {
        let unknown = || Fault::InvalidRequest("input/invitations: expected everyone, contacts or nobody".to_owned());
        let policy = consent::from_name(said).ok_or_else(unknown)?;
        consent::say_if_unsaid(tx.conn(), account_id, policy).await?;
    }
    for one in input.relationships.iter().flatten().filter(|one| one.account != *account) {
        store::bring_relationship(tx.conn(), account_id, &one.account, &one.state, now.to_datetime()).await?;
    }
    for other in input.blocks.iter().flatten().filter(|other| *other != account) {
        store::bring_block(tx.conn(), account_id, other, now.to_datetime()).await?;
    }
    let mut waiting = Vec::new();
    for welcome in input.welcomes.iter().flatten() {
        if !store::bring_welcome(tx.conn(), account_id, welcome, now.to_datetime()).await? {
            waiting.push(welcome.stream.clone());
        }
    }

    let mut homes: BTreeMap<&Did, Option<Vec<String>>> = BTreeMap::new();
    for seat in input.seats.iter().flatten() {
        if let Some(streams) = homes.entry(&seat.home).or_insert_with(|| Some(Vec::new())) {
            streams.push(seat.stream.clone());
        }
    }
    homes.extend(input.homes.iter().flatten().map(|home| (home, None)));
    for (home, streams) in homes.into_iter().filter(|(home, _)| *home != cx.log.home()) {
        if !store::is_announced(tx.conn(), account, home, streams.as_deref()).await? {
            moves::announce(tx.conn(), account, home, streams.as_deref(), now).await?;
        }
    }
    tx.commit().await?;
    Ok(waiting)
}
