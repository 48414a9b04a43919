//! Writing a commit: its entry, the seats that follow from it, GroupInfo, Welcome and invitations, in one transaction.

use super::elsewhere::{self, Homes};
use super::newcomers::{invite, newcomers};
use super::snapshot::Snapshot;
use super::{model, store};
use crate::log::body::{self, Body, CommitBody};
use crate::log::{Accepted, CallIdentity, Draft, EntryKind, StreamInfo};
use crate::mls::VerifiedCommit;
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

    // The last reading: `prepare` begins to write.
    let newcomers = newcomers(cx, &mut tx, &caller.author.did, stream, judged).await?;
    let before = elsewhere::prepare(&mut tx, verified, homes).await?;
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
    store::insert_group_info(tx.conn(), stream.id, (verified, caller.author.account_id), now).await?;
    let references: Vec<Vec<u8>> = verified.adds().iter().map(|add| add.reference.clone()).collect();
    store::spend_claims(tx.conn(), stream.id, &references, now).await?;
    if let Some(welcome) = verified.welcome() {
        let welcome_id = {
            let brought = (welcome, caller.author.account_id);
            store::insert_welcome(tx.conn(), stream.id, &entry, verified.epoch(), brought, now).await?
        };
        let notices = invite(cx, &mut tx, caller, (stream, entry.seq, welcome_id), judged, &newcomers).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::chain::CONTENT_BYTES;
    use crate::log::{Content, Head};
    use crate::mls::limits::COMMIT_BYTES;
    use crate::types::{DeviceId, Hash, Seq, StreamId, Term, UnixMillis};

    /// Devices that one call adds, and that it removes (addMembers.json).
    const DEVICES: usize = 100;

    #[test]
    fn the_largest_commit_fits_into_an_entry() {
        let account = |number| Did::parse(&format!("did:web:{number:03}.{}.example", "a".repeat(40))).unwrap();
        let device = DeviceId::parse(&"d".repeat(64)).unwrap();
        let adds = (0..DEVICES).map(|number| body::Addition {
            account: account(number),
            device: device.clone(),
            reference: Bytes(vec![7; 64]),
            server: account(number).to_string(),
        });
        let removes = (0..DEVICES).map(|number| body::Removal { account: account(number), device: device.clone() });
        let commit = Bytes(vec![7; COMMIT_BYTES]);
        let body = CommitBody { commit, adds: adds.collect(), removes: removes.collect() };
        let content = Content::new(body.encode().unwrap(), Some((account(0), device.clone())));
        let mut head = Head {
            stream: StreamId::of_genesis(b"genesis"),
            term: Term(1),
            seq: Seq(0),
            hash: Hash::ZERO,
            time: UnixMillis(0),
        };
        let sealed = head.seal(EntryKind::Commit, None, &content, UnixMillis(0)).unwrap();
        assert!(sealed.content.len() <= CONTENT_BYTES, "{} of {CONTENT_BYTES} bytes", sealed.content.len());
    }
}
