//! The effects of a commit on members whose accounts live on other servers.
//!
//! Invariants: the locations of accounts are looked up before any lock; the server that handed out the refs of such
//! adds verifies them, when the Welcome is delivered there; each delivery is a row of the commit's own transaction.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::store;
use crate::federation::AccountHome;
use crate::federation::joining::delivery::{self, Delivery, Enclosed};
use crate::federation::joining::whereabouts;
use crate::lexicon::mls::defs::Addition;
use crate::log::body::Role;
use crate::log::{Roster, Sealed, StreamInfo, StreamTx};
use crate::mls::VerifiedCommit;
use crate::types::{Did, Named};
use crate::xrpc::{Device, Failure, Fault, Services};

/// The servers of those of the added accounts that live on another one.
pub(super) type Homes = HashMap<Did, Did>;

pub(super) async fn homes<E: Named>(cx: &Services, caller: &Device, adds: &[Addition]) -> Result<Homes, Failure<E>> {
    let accounts = adds.iter().map(|add| add.account.clone());
    let mut homes = Homes::new();
    let located = whereabouts::locate(&cx.federation, &caller.author.did, accounts).await;
    for (account, server) in located.map_err(Fault::from)? {
        if let AccountHome::Elsewhere(server) = server.map_err(Fault::from)? {
            homes.insert(account, server);
        }
    }
    Ok(homes)
}

/// The membership just before the commit; empty if the commit adds no account of another server.
pub(super) struct Before {
    roster: Roster,
}

/// Before the entry: makes rows for what it is about to name.
pub(super) async fn prepare<E: Named>(
    tx: &mut StreamTx,
    verified: &VerifiedCommit,
    homes: &Homes,
) -> Result<Option<Before>, Failure<E>> {
    let named: Vec<(&Did, &str, &Did)> = verified
        .adds()
        .iter()
        .filter_map(|add| Some((&add.account, add.device.as_str(), homes.get(&add.account)?)))
        .collect();
    if named.is_empty() {
        return Ok(None);
    }
    let roster = tx.roster().await?.clone();
    let now = tx.now().to_datetime();
    tx.begin_writes().await?;
    store::know_devices(tx.conn(), &named, now).await?;
    Ok(Some(Before { roster }))
}

/// After the entry: keeps the keys of the new leaves, and queues the deliveries to their servers.
pub(super) async fn tell<E: Named>(
    tx: &mut StreamTx,
    stream: &StreamInfo,
    verified: &VerifiedCommit,
    homes: &Homes,
    before: Before,
    (entry, welcome_id): (&Sealed, i64),
) -> Result<(), Failure<E>> {
    let mut by_account: BTreeMap<&Did, Vec<Vec<u8>>> = BTreeMap::new();
    for add in verified.adds().iter().filter(|add| homes.contains_key(&add.account)) {
        by_account.entry(&add.account).or_default().push(add.reference.clone());
        let mut leaves = verified.leaves().iter();
        let leaf = leaves.find(|leaf| (&leaf.account, &leaf.device) == (&add.account, &add.device));
        if let Some(key) = leaf.and_then(|leaf| leaf.signature_keys.first()) {
            store::keep_leaf_key(tx.conn(), stream.id, &add.account, add.device.as_str(), key).await?;
        }
    }
    let mut deliveries = Vec::with_capacity(by_account.len());
    for (to, references) in by_account {
        let Some(server) = homes.get(to) else { continue };
        let seat = before.roster.seats.get(to);
        let body = json!({
            "stream": stream.public_id,
            "role": seat.map_or(&Role::Member, |seat| &seat.role).name(),
            "fromSeq": entry.seq,
            "epoch": verified.epoch().0,
        });
        let kind = if seat.is_some() { "welcome" } else { "invitation" };
        let welcome = Some(Enclosed { welcome_id, references });
        deliveries.push(Delivery { sender: None, server, to, kind, body, stream_id: Some(stream.id), welcome });
    }
    let now = tx.now();
    Ok(delivery::queue(tx.conn(), &deliveries, now).await?)
}
