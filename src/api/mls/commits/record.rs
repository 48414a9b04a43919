//! Writing a commit: its entry, the seats that follow from it, GroupInfo, Welcome and invitations, in one transaction.

use std::collections::BTreeMap;

use super::snapshot::Snapshot;
use super::{model, store};
use crate::log::body::{self, Body, CommitBody, WelcomeBody};
use crate::log::{Accepted, CallIdentity, Draft, EntryKind, Outgoing, StreamInfo, StreamTx};
use crate::mls::VerifiedCommit;
use crate::storage;
use crate::types::{Bytes, Did, Named};
use crate::xrpc::{Device, Failure, Services};

/// Writes all that follows from the commit; nothing if seats changed since the snapshot.
pub(super) async fn record<E: Named>(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    snapshot: &Snapshot,
    verified: &VerifiedCommit,
    identity: CallIdentity,
) -> Result<Option<Accepted>, Failure<E>> {
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

    let draft = Draft {
        kind: EntryKind::Commit,
        epoch: Some(verified.left()),
        body: commit_body(cx, verified).encode()?,
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
        store::insert_welcome(tx.conn(), stream.id, &entry, verified.epoch(), welcome, verified.adds(), now).await?;
        let invitations = invitations(&mut tx, stream, verified).await?;
        tx.send(invitations).await?;
    }
    let accepted = Accepted::of(&entry, Some(verified.left()), Some(identity));
    tx.commit().await?;
    Ok(Some(accepted))
}

fn commit_body(cx: &Services, verified: &VerifiedCommit) -> CommitBody {
    let server = cx.log.home().to_string();
    let adds = verified.adds().iter().map(|add| body::Addition {
        account: add.account.clone(),
        device: add.device.clone(),
        reference: Bytes(add.reference.clone()),
        server: server.clone(),
    });
    let removes = verified
        .removes()
        .iter()
        .map(|(account, device)| body::Removal { account: account.clone(), device: device.clone() });
    CommitBody { commit: Bytes::from(verified.commit()), adds: adds.collect(), removes: removes.collect() }
}

/// One `#welcome` for each account that got a device in.
async fn invitations<E: Named>(
    tx: &mut StreamTx,
    stream: &StreamInfo,
    verified: &VerifiedCommit,
) -> Result<Vec<Outgoing>, Failure<E>> {
    let mut by_account: BTreeMap<&Did, WelcomeBody> = BTreeMap::new();
    for add in verified.adds() {
        let body = by_account.entry(&add.account).or_insert_with(|| WelcomeBody {
            stream: stream.public_id.clone(),
            device: Vec::new(),
            refs: Vec::new(),
        });
        body.device.push(add.device.clone());
        body.refs.push(Bytes(add.reference.clone()));
    }
    let accounts: Vec<String> = by_account.keys().map(ToString::to_string).collect();
    let ids = store::account_ids(tx.conn(), &accounts).await?;
    by_account
        .into_iter()
        .map(|(did, body)| {
            let account_id = *ids.get(did.as_str()).ok_or(storage::Error::Corrupt("account of a claimed package"))?;
            Ok(Outgoing { account_id, kind: EntryKind::Welcome, body: body.encode()? })
        })
        .collect()
}
