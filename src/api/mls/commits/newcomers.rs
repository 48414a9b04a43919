//! Accounts of this server that a commit brings in: their consent to the committer, and their notices.
//!
//! Invariant: consent is asked before the entry gives a seat, and a Welcome without it is held.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::record::Judged;
use super::store;
use crate::federation::joining::{consent, invitation, seating};
use crate::log::body::{Body, WelcomeBody};
use crate::log::{EntryKind, Outgoing, StreamInfo, StreamTx};
use crate::storage;
use crate::types::{Bytes, Did, Named, Seq};
use crate::xrpc::{Device, Failure, Services};

/// Accounts of this server that the commit adds devices of.
pub(super) struct Newcomers {
    ids: HashMap<String, i64>,
    /// The accounts that let the committer invite them, as of before the entry gives them a seat.
    consenting: HashSet<i64>,
}

pub(super) async fn newcomers<E: Named>(
    cx: &Services,
    tx: &mut StreamTx,
    inviter: &Did,
    stream: &StreamInfo,
    Judged { verified, homes, .. }: Judged<'_>,
) -> Result<Newcomers, Failure<E>> {
    let ours = verified.adds().iter().filter(|add| !homes.contains_key(&add.account));
    let accounts: Vec<String> = ours.map(|add| add.account.to_string()).collect();
    let ids = store::account_ids(tx.conn(), &accounts).await?;
    let all: Vec<i64> = ids.values().copied().collect();
    let (unsaid, public_id) = (cx.config.identity.invitations, stream.public_id.as_str());
    let consenting = consent::consenting(tx.conn(), unsaid, inviter, public_id, &all).await?;
    Ok(Newcomers { ids, consenting })
}

/// A pointer for each device of this server that was added, and the notice for its account: `#welcome`, or `#invitation`
/// where the account does not let the committer invite it and must say so first.
pub(super) async fn invite<E: Named>(
    cx: &Services,
    tx: &mut StreamTx,
    caller: &Device,
    (stream, from_seq, welcome_id): (&StreamInfo, Seq, i64),
    Judged { verified, homes, .. }: Judged<'_>,
    newcomers: &Newcomers,
) -> Result<Vec<Outgoing>, Failure<E>> {
    let mut by_account: BTreeMap<&Did, WelcomeBody> = BTreeMap::new();
    for add in verified.adds().iter().filter(|add| !homes.contains_key(&add.account)) {
        let body = by_account.entry(&add.account).or_insert_with(|| WelcomeBody {
            stream: stream.public_id.clone(),
            device: Vec::new(),
            refs: Vec::new(),
        });
        body.device.push(add.device.clone());
        body.refs.push(Bytes(add.reference.clone()));
    }
    let (inviter, now) = (&caller.author.did, tx.now().to_datetime());
    let mut invited = Vec::with_capacity(by_account.len());
    for (did, body) in by_account {
        let account_id = newcomers.ids.get(did.as_str()).copied();
        let account_id = account_id.ok_or(storage::Error::Corrupt("account of a claimed package"))?;
        invited.push((account_id, !newcomers.consenting.contains(&account_id), body));
    }
    // For all accounts at once: this transaction holds back every reader of the log.
    store::insert_pointers(tx.conn(), welcome_id, invited.iter().map(|(_, held, body)| (body, *held))).await?;
    let consenting: Vec<i64> = invited.iter().filter(|(_, held, _)| !held).map(|(id, ..)| *id).collect();
    invitation::clear(tx.conn(), stream.public_id.as_str(), &consenting).await?;
    let mut notices = Vec::with_capacity(invited.len());
    for (account_id, held, body) in invited {
        notices.push(if held {
            seating::hold_seat(tx.conn(), account_id, stream.public_id.as_str(), from_seq).await?;
            let (stream, home) = (&stream.public_id, cx.log.home());
            let (inviter, state) = (Some(inviter), invitation::State::Waiting);
            let new = invitation::New { account_id, stream, home, inviter, offer: None, from_seq, state };
            invitation::hold(tx.conn(), &new, now).await?
        } else {
            Outgoing { account_id, kind: EntryKind::Welcome, body: body.encode()? }
        });
    }
    Ok(notices)
}
