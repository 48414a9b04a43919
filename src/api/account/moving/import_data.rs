//! `blue.catbird.account.importData`: stores the data that a moving account brings, and notifies the homes of its
//! seats.
//!
//! Invariants: existing data stays, so that a repeat changes nothing; each home verifies the move itself; all look-ups
//! and counts happen before the transaction, which only writes.

use std::collections::BTreeMap;

use super::store;
use crate::api::account::contacts::certified;
use crate::federation::PeerRefused;
use crate::federation::joining::moves::{self, Announcement};
use crate::federation::joining::{consent, delivery};
use crate::lexicon::account::import_data::{Error, ImportData, Input, Output};
use crate::storage;
use crate::types::Did;
use crate::xrpc::{Call, Device, Failure, Fault, Services};

pub async fn import_data(cx: &Services, caller: Device, call: Call<ImportData>) -> Result<Output, Failure<Error>> {
    certified(&caller)?;
    if !cx.federation.is_on() {
        return Err(Fault::from(PeerRefused::FederationOff).into());
    }
    let announcements = announcements(cx, &caller, &call.input).await?;
    let room = store::room(cx.storage.pool(), caller.author.account_id).await?;
    // Streams of this home need no announcement.
    for stream_id in store::seats_elsewhere(cx.storage.pool(), caller.author.account_id, cx.log.home()).await? {
        moves::move_seat(&cx.log, &caller.author.did, cx.log.home(), stream_id).await?;
    }
    let waiting =
        storage::retrying(Failure::is_collision, || import(cx, &caller, &call.input, &announcements, room)).await?;
    cx.joining.wake();
    Ok(Output { waiting })
}

/// The announcements that the homes still need. A name that cannot be a server's is refused; whether a server answers
/// under it, only the delivery shows: a look-up here would let one call aim 200 requests.
async fn announcements(cx: &Services, caller: &Device, input: &Input) -> Result<Vec<Announcement>, Failure<Error>> {
    let mut homes: BTreeMap<&Did, Option<Vec<String>>> = BTreeMap::new();
    for seat in input.seats.iter().flatten() {
        if let Some(streams) = homes.entry(&seat.home).or_insert_with(|| Some(Vec::new())) {
            streams.push(seat.stream.clone());
        }
    }
    homes.extend(input.homes.iter().flatten().map(|home| (home, None)));
    let mut announcements = Vec::with_capacity(homes.len());
    for (home, streams) in homes.into_iter().filter(|(home, _)| *home != cx.log.home()) {
        if !cx.federation.may_be_server(home) {
            return Err(Fault::InvalidRequest(format!("input: {home} is not the name of a server")).into());
        }
        announcements.push(Announcement::new(home.clone(), streams.as_deref()));
    }
    let (pool, author) = (cx.storage.pool(), &caller.author);
    let announcements = moves::unannounced(pool, &author.did, announcements, cx.clock.now()).await?;
    let fits = delivery::may_send(pool, author.account_id, announcements.len()).await?;
    fits.map_err(|_: delivery::TooMany| Fault::DeliveriesWait)?;
    Ok(announcements)
}

async fn import(
    cx: &Services,
    caller: &Device,
    input: &Input,
    announcements: &[Announcement],
    room: store::Room,
) -> Result<Vec<String>, Failure<Error>> {
    let (account_id, account, now) = (caller.author.account_id, &caller.author.did, cx.clock.now());
    let mut tx = cx.storage.begin().await?;
    if let Some(said) = &input.invitations {
        let unknown = || Fault::InvalidRequest("input/invitations: expected everyone, contacts or nobody".to_owned());
        let policy = consent::from_name(said).ok_or_else(unknown)?;
        consent::say_if_unsaid(tx.conn(), account_id, policy).await?;
    }
    let relationships = input.relationships.iter().flatten().filter(|one| one.account != *account);
    for one in relationships.take(room.relationships) {
        store::bring_relationship(tx.conn(), account_id, &one.account, &one.state, now.to_datetime()).await?;
    }
    for other in input.blocks.iter().flatten().filter(|other| *other != account).take(room.blocks) {
        store::bring_block(tx.conn(), account_id, other, now.to_datetime()).await?;
    }
    let mut waiting = Vec::new();
    for welcome in input.welcomes.iter().flatten() {
        if !store::bring_welcome(tx.conn(), account_id, welcome, now.to_datetime()).await? {
            waiting.push(welcome.stream.clone());
        }
    }
    moves::announce(tx.conn(), (account_id, account), announcements, now).await?;
    tx.commit().await?;
    Ok(waiting)
}
