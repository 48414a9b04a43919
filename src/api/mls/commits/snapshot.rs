//! The state that a commit is validated against: read without a lock, compared again under the stream's lock.

use std::sync::Arc;

use super::elsewhere::Homes;
use super::intake::Bundle;
use super::{model, store};
use crate::api::mls::access;
use crate::lexicon::mls::defs::Addition;
use crate::log::{StreamInfo, StreamRow, device_not_in_group};
use crate::mls::{self, Declared, DeclaredAdd, Stored, StoredLeaf, VerifiedCommit};
use crate::types::{Bytes, DeviceId, Did, Epoch, Named, Refusal};
use crate::xrpc::{Class, Device, Failure, Services, blocking, parse};

/// Leaves of a tree whose verification counts as one more write of the committer's account: some 10 ms of a core.
const LEAVES_PER_CALL: usize = 100;

/// The state that a commit is validated against.
pub(super) struct Snapshot {
    pub epoch: Epoch,
    /// The rights version of the stream's row, which every change of seats or epoch raises.
    pub rules: i64,
    leaves: Vec<StoredLeaf>,
    adds: Vec<DeclaredAdd>,
    removes: Vec<(Did, DeviceId)>,
}

impl Snapshot {
    /// `row` was read before: whatever changes after it raises `rules`, and is found out under the lock.
    pub async fn take<E: Named>(
        cx: &Services,
        caller: &Device,
        stream: &StreamInfo,
        bundle: &Bundle,
        (row, homes): (&StreamRow, &Homes),
    ) -> Result<Self, Failure<E>> {
        let removes = may_commit(cx, caller, stream, bundle).await?;
        let leaves = store::leaves(cx.storage.pool(), stream.id).await?;
        let adds = claimed(cx, stream, &bundle.adds, homes).await?;
        Ok(Self { epoch: row.epoch, rules: row.rules, leaves, adds, removes })
    }

    fn leaf_of(&self, caller: &Device) -> Result<StoredLeaf, Refusal> {
        let author = &caller.author;
        let mut leaves = self.leaves.iter();
        let own = leaves.find(|leaf| leaf.account == author.did && leaf.device == author.device);
        own.cloned().ok_or_else(device_not_in_group)
    }

    pub async fn judge<E: Named>(
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
        let declared =
            Declared { committer: self.leaf_of(caller)?, adds: self.adds.clone(), removes: self.removes.clone() };
        // Checked before any signature: the tree must have exactly these leaves.
        let leaves = self.leaves.len() + self.adds.len();
        let calls = u32::try_from(leaves / LEAVES_PER_CALL).unwrap_or(u32::MAX);
        cx.limits.work(Class::Write, &caller.author.did, calls)?;
        let bundle = Arc::clone(bundle);
        let verified = blocking(cx, move || {
            let welcome = bundle.welcome.as_ref().map(Bytes::as_slice);
            mls::judge(&stored, bundle.commit.as_slice(), bundle.group_info.as_slice(), welcome, &declared)
        })
        .await??;
        model::judge_devices(verified.leaves().iter().map(|leaf| &leaf.account), group.max_devices)?;
        Ok(verified)
    }
}

/// Checks that the caller has a seat and a leaf, and may remove the members that the commit removes; answers the
/// removes.
pub(super) async fn may_commit<E: Named>(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    bundle: &Bundle,
) -> Result<Vec<(Did, DeviceId)>, Failure<E>> {
    let readable = access::seated(cx, &caller.author, stream.public_id.as_str()).await?;
    let roster = cx.log.roster(readable.stream.id).await?;
    if !roster.leaves.contains_key(&(caller.author.did.clone(), caller.author.device.clone())) {
        return Err(device_not_in_group().into());
    }
    let removes = bundle
        .removes
        .iter()
        .map(|removal| Ok((removal.account.clone(), parse(DeviceId::parse, &removal.device)?)))
        .collect::<Result<Vec<_>, Failure<E>>>()?;
    model::judge_rights(&roster, &caller.author.did, &removes)?;
    Ok(removes)
}

/// The declared additions, each with the keys of the device whose package was claimed for this stream. What devices of
/// other servers are known by is in the tree.
async fn claimed<E: Named>(
    cx: &Services,
    stream: &StreamInfo,
    adds: &[Addition],
    homes: &Homes,
) -> Result<Vec<DeclaredAdd>, Failure<E>> {
    let references: Vec<Vec<u8>> = adds.iter().map(|add| add.r#ref.0.clone()).collect();
    let since = cx.clock.now().to_datetime() - store::CLAIM_LIFETIME;
    let mut packages = store::claimed_packages(cx.storage.pool(), stream.id, &references, since).await?;
    let unknown = || Refusal::new("KeyPackageUnknown", "a ref was not claimed for this stream, or was used already");
    adds.iter()
        .map(|add| {
            if homes.contains_key(&add.account) {
                let device = parse(DeviceId::parse, &add.device)?;
                let (account, reference) = (add.account.clone(), add.r#ref.0.clone());
                return Ok(DeclaredAdd { account, device, reference, signature_keys: Vec::new() });
            }
            let package = packages.remove(add.r#ref.as_slice()).ok_or_else(unknown)?;
            if package.account != add.account || package.device.as_str() != add.device {
                return Err(unknown().into());
            }
            Ok(DeclaredAdd {
                account: package.account,
                device: package.device,
                reference: add.r#ref.0.clone(),
                signature_keys: package.signature_keys,
            })
        })
        .collect()
}
