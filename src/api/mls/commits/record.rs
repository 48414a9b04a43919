//! Writing a commit: its entry, the seats that follow from it, GroupInfo, Welcome and invitations, in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::elsewhere::{self, Homes};
use super::snapshot::Snapshot;
use super::{model, store};
use crate::federation::joining::{consent, invitation};
use crate::log::body::{self, Body, CommitBody, WelcomeBody};
use crate::log::{Accepted, CallIdentity, Draft, EntryKind, Outgoing, StreamInfo, StreamTx};
use crate::mls::VerifiedCommit;
use crate::storage;
use crate::types::{Bytes, Did, Named};
use crate::xrpc::{Device, Failure, Services};

/// A commit that was judged, and against what.
#[derive(Clone, Copy)]
pub(super) struct Judged<'a> {
    pub snapshot: &'a Snapshot,
    pub verified: &'a VerifiedCommit,
    pub homes: &'a Homes,
}

/// Writes all that follows from the commit; nothing if seats changed since the snapshot.
pub(super) async fn record<E: Named>(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    judged: Judged<'_>,
    identity: CallIdentity,
) -> Result<Option<Accepted>, Failure<E>> {
    let Judged { snapshot, verified, homes } = judged;
    let mut tx = cx.log.lock(stream.id).await?;
    if let Some(first) = tx.repeated(&identity).await? {
        return Ok(Some(first));
    }
    let (epoch, floor) = (tx.row().epoch, tx.row().epoch_floor);
    if epoch != snapshot.epoch {
        return Err(model::stale(epoch).into());
    }
    if tx.row().rules != snapshot.rules {
        return Ok(None);
    }
    let seat = tx.seat(&caller.author, true).await?;

    let before = elsewhere::prepare(&mut tx, stream, verified, homes, cx.log.home()).await?;
    let newcomers = newcomers(cx, &mut tx, &caller.author.did, stream, judged).await?;
    let draft = Draft {
        kind: EntryKind::Commit,
        epoch: Some(verified.left()),
        body: commit_body(cx, verified, homes).encode()?,
        identity: Some(identity),
    };
    let entry = tx.append(&seat, draft).await?;
    // Nothing from before a removal is accepted after it.
    let floor = if verified.removes().is_empty() { floor } else { verified.epoch() };
    tx.set_epoch(verified.epoch(), floor);

    let now = tx.now().to_datetime();
    store::insert_group_info(tx.conn(), stream.id, verified, now).await?;
    let references: Vec<Vec<u8>> = verified.adds().iter().map(|add| add.reference.clone()).collect();
    store::spend_claims(tx.conn(), stream.id, &references, now).await?;
    if let Some(welcome) = verified.welcome() {
        let welcome_id = store::insert_welcome(tx.conn(), stream.id, &entry, verified.epoch(), welcome, now).await?;
        let notices = invite(cx, &mut tx, caller, (stream, welcome_id), judged, &newcomers).await?;
        tx.send(notices).await?;
        if let Some(before) = before {
            elsewhere::tell(&mut tx, stream, verified, homes, before, (&entry, welcome_id)).await?;
        }
    }
    let accepted = Accepted::of(&entry, Some(verified.left()), Some(identity));
    tx.commit().await?;
    if !homes.is_empty() {
        cx.joining.wake();
    }
    Ok(Some(accepted))
}

fn commit_body(cx: &Services, verified: &VerifiedCommit, homes: &Homes) -> CommitBody {
    let server = |account: &Did| homes.get(account).unwrap_or_else(|| cx.log.home()).to_string();
    let adds = verified.adds().iter().map(|add| body::Addition {
        account: add.account.clone(),
        device: add.device.clone(),
        reference: Bytes(add.reference.clone()),
        server: server(&add.account),
    });
    let removes = verified
        .removes()
        .iter()
        .map(|(account, device)| body::Removal { account: account.clone(), device: device.clone() });
    CommitBody { commit: Bytes::from(verified.commit()), adds: adds.collect(), removes: removes.collect() }
}

/// Accounts of this server that the commit adds devices of.
struct Newcomers {
    ids: HashMap<String, i64>,
    /// Those that let the committer invite them. Asked before the entry gives them a seat.
    consenting: HashSet<i64>,
}

async fn newcomers<E: Named>(
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
async fn invite<E: Named>(
    cx: &Services,
    tx: &mut StreamTx,
    caller: &Device,
    (stream, welcome_id): (&StreamInfo, i64),
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
    let mut notices = Vec::with_capacity(by_account.len());
    for (did, body) in by_account {
        let account_id = newcomers.ids.get(did.as_str()).copied();
        let account_id = account_id.ok_or(storage::Error::Corrupt("account of a claimed package"))?;
        let held = !newcomers.consenting.contains(&account_id);
        store::insert_pointers(tx.conn(), welcome_id, &body, held).await?;
        notices.push(if held {
            let (stream, home) = (&stream.public_id, cx.log.home());
            let (inviter, state) = (Some(inviter), invitation::State::Waiting);
            let new = invitation::New { account_id, stream, home, inviter, offer: None, state };
            invitation::hold(tx.conn(), &new, now).await?
        } else {
            invitation::clear(tx.conn(), stream.public_id.as_str(), &[account_id]).await?;
            Outgoing { account_id, kind: EntryKind::Welcome, body: body.encode()? }
        });
    }
    Ok(notices)
}
