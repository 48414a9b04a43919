//! The intake of every commit: judged against a snapshot, outside any transaction; written under the stream's lock if
//! the snapshot still holds.

use std::sync::Arc;

use super::record::record;
use super::snapshot::Snapshot;
use crate::api::mls::access;
use crate::lexicon::mls::defs::{Addition, Removal};
use crate::log::{Accepted, CallIdentity, StreamInfo, StreamRow};
use crate::mls::VerifiedCommit;
use crate::storage;
use crate::types::{Bytes, Epoch, Named};
use crate::xrpc::{Device, Failure, Fault, Services};

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
        // Before anything else, so that whatever is read below is at least as new.
        let before = cx.log.row(stream.id).await?;
        if let Some(first) = cx.log.repeated(stream.id, &bundle.identity).await? {
            return Ok(with_epoch(first));
        }
        let (snapshot, verified) = match judged(cx, caller, &stream, &bundle, &before).await {
            Ok(judged) => judged,
            // Rows were read one after the other: a refusal says something only if nothing changed meanwhile. Otherwise
            // the loser of a race would be told that its tree is wrong, instead of that its epoch is over.
            Err(_) if cx.log.row(stream.id).await?.rules != before.rules => continue,
            Err(failure) => return Err(failure),
        };
        let recorded = storage::retrying(Failure::is_collision, || {
            record(cx, caller, &stream, &snapshot, &verified, bundle.identity)
        });
        if let Some(accepted) = recorded.await? {
            return Ok(with_epoch(accepted));
        }
    }
    Err(Fault::Unavailable.into())
}

/// A snapshot from `row` on, and the commit judged against it.
async fn judged<E: Named>(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    bundle: &Arc<Bundle>,
    row: &StreamRow,
) -> Result<(Snapshot, VerifiedCommit), Failure<E>> {
    let snapshot = Snapshot::take(cx, caller, stream, bundle, row).await?;
    let verified = snapshot.judge(cx, caller, stream, bundle).await?;
    Ok((snapshot, verified))
}

/// The epoch that a commit's entry made: the one after the one it left.
fn with_epoch(accepted: Accepted) -> (Accepted, Epoch) {
    let epoch = accepted.epoch.map_or(Epoch(0), Epoch::next);
    (accepted, epoch)
}
