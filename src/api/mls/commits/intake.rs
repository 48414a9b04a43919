//! The intake of every commit: judged against a snapshot, outside any transaction; written under the stream's lock if
//! the snapshot still holds.

use std::sync::Arc;

use super::{model, store};
use crate::api::mls::access;
use crate::lexicon::mls::defs::{Addition, Removal};
use crate::log::body::{self, Body, CommitBody, WelcomeBody};
use crate::log::{Accepted, CallIdentity, Draft, EntryKind, Outgoing, StreamInfo, device_not_in_group};
use crate::mls::{self, Declared, DeclaredAdd, Stored, StoredLeaf, VerifiedCommit};
use crate::storage;
use crate::types::{Bytes, DeviceId, Did, Epoch, Named, Refusal};
use crate::xrpc::{Device, Failure, Fault, Services, blocking, parse};

/// How often a commit is judged anew because seats changed meanwhile, without an epoch.
const SNAPSHOTS: usize = 4;

/// A commit and everything that must come with it.
pub(super) struct Bundle {
    pub stream: String,
    pub identity: CallIdentity,
    pub commit: Bytes,
    pub group_info: Bytes,
    pub welcome: Option<Bytes>,
    pub adds: Vec<Addition>,
    pub removes: Vec<Removal>,
}

/// Takes a commit: its entry, and the epoch that it made.
pub(super) async fn intake<E: Named>(
    cx: &Services,
    caller: &Device,
    bundle: Bundle,
) -> Result<(Accepted, Epoch), Failure<E>> {
    access::certified(caller)?;
    let stream = access::find(cx, &bundle.stream).await?;
    let bundle = Arc::new(bundle);
    for _ in 0..SNAPSHOTS {
        if let Some(first) = cx.log.repeated(stream.id, &bundle.identity).await? {
            return Ok(with_epoch(first));
        }
        let snapshot = Snapshot::take(cx, caller, &stream, &bundle).await?;
        let verified = snapshot.judge(cx, caller, &stream, &bundle).await?;
        let recorded = storage::retrying(Failure::is_collision, || {
            record(cx, caller, &stream, &snapshot, &verified, bundle.identity)
        });
        if let Some(accepted) = recorded.await? {
            return Ok(with_epoch(accepted));
        }
    }
    Err(Fault::Unavailable.into())
}

/// The epoch that a commit's entry made: the one after the one it left.
fn with_epoch(accepted: Accepted) -> (Accepted, Epoch) {
    let epoch = accepted.epoch.map_or(Epoch(0), Epoch::next);
    (accepted, epoch)
}

/// What a commit is judged against.
struct Snapshot {
    epoch: Epoch,
    rules: i64,
    leaves: Vec<StoredLeaf>,
    adds: Vec<DeclaredAdd>,
    removes: Vec<(Did, DeviceId)>,
}

impl Snapshot {
    /// The row is read first: whatever changes after it raises `rules`, and is found out under the lock.
    async fn take<E: Named>(
        cx: &Services,
        caller: &Device,
        stream: &StreamInfo,
        bundle: &Bundle,
    ) -> Result<Self, Failure<E>> {
        let row = cx.log.row(stream.id).await?;
        let readable = access::seated(cx, &caller.author, stream.public_id.as_str()).await?;
        let roster = cx.log.roster(readable.stream.id).await?;
        if !roster.leaves.contains_key(&(caller.author.did.clone(), caller.author.device.clone())) {
            return Err(device_not_in_group().into());
        }
        let leaves = store::leaves(cx.storage.pool(), stream.id).await?;
        let removes = bundle
            .removes
            .iter()
            .map(|removal| Ok((removal.account.clone(), parse(DeviceId::parse, &removal.device)?)))
            .collect::<Result<Vec<_>, Failure<E>>>()?;
        model::judge_rights(&roster, &caller.author.did, &removes)?;
        let adds = claimed(cx, stream, &bundle.adds).await?;
        Ok(Self { epoch: row.epoch, rules: row.rules, leaves, adds, removes })
    }

    async fn judge<E: Named>(
        &self,
        cx: &Services,
        caller: &Device,
        stream: &StreamInfo,
        bundle: &Arc<Bundle>,
    ) -> Result<VerifiedCommit, Failure<E>> {
        let group = access::group(cx, stream).await?;
        let stored = Stored {
            group_id: group.group_id.clone(),
            cipher_suite: group.cipher_suite,
            epoch: self.epoch,
            leaves: self.leaves.clone(),
        };
        let declared = Declared {
            committer: StoredLeaf {
                account: caller.author.did.clone(),
                device: caller.author.device.clone(),
                signature_key: caller.public_key.clone(),
            },
            adds: self.adds.clone(),
            removes: self.removes.clone(),
        };
        let bundle = Arc::clone(bundle);
        let verified = blocking(move || {
            let welcome = bundle.welcome.as_ref().map(Bytes::as_slice);
            mls::judge(&stored, bundle.commit.as_slice(), bundle.group_info.as_slice(), welcome, &declared)
        })
        .await??;
        model::judge_devices(verified.leaves().iter().map(|leaf| &leaf.account), group.max_devices)?;
        Ok(verified)
    }
}

/// The declared additions, each with the key of the device whose package was claimed for this stream.
async fn claimed<E: Named>(
    cx: &Services,
    stream: &StreamInfo,
    adds: &[Addition],
) -> Result<Vec<DeclaredAdd>, Failure<E>> {
    let references: Vec<Vec<u8>> = adds.iter().map(|add| add.r#ref.0.clone()).collect();
    let since = cx.clock.now().to_datetime() - store::CLAIM_LIFETIME;
    let mut packages = store::claimed_packages(cx.storage.pool(), stream.id, &references, since).await?;
    let unknown = || Refusal::new("KeyPackageUnknown", "a ref was not claimed for this stream, or was used already");
    adds.iter()
        .map(|add| {
            let package = packages.remove(add.r#ref.as_slice()).ok_or_else(unknown)?;
            if package.account != add.account || package.device.as_str() != add.device {
                return Err(unknown().into());
            }
            Ok(DeclaredAdd {
                account: package.account,
                device: package.device,
                reference: add.r#ref.0.clone(),
                signature_key: package.signature_key,
            })
        })
        .collect()
}

/// Writes all that follows from the commit; nothing if seats changed since the snapshot.
async fn record<E: Named>(
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
    tx: &mut crate::log::StreamTx,
    stream: &StreamInfo,
    verified: &VerifiedCommit,
) -> Result<Vec<Outgoing>, Failure<E>> {
    let mut by_account: std::collections::BTreeMap<&Did, WelcomeBody> = std::collections::BTreeMap::new();
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
