//! The intake of every commit: it validates a commit against a snapshot, outside any transaction, and writes the commit
//! under the stream's lock if the snapshot still holds.

use std::sync::Arc;

use super::elsewhere::{self, Homes};
use super::record::{Judged, record};
use super::snapshot::{self, Snapshot};
use crate::api::mls::access;
use crate::lexicon::mls::defs::{Addition, Removal};
use crate::log::{Accepted, CallIdentity, StreamInfo, StreamRow};
use crate::storage;
use crate::types::{Bytes, Epoch, Named};
use crate::xrpc::{Device, Failure, Fault, Services};

/// How often a commit is validated again because seats changed meanwhile, without an epoch.
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
    if let Some(first) = cx.log.repeated(stream.id, &bundle.identity).await? {
        return Ok(with_epoch(first));
    }
    // No look-up happens for a caller who may not commit.
    snapshot::may_commit(cx, caller, &stream, &bundle).await?;
    let homes = elsewhere::homes(cx, caller, &bundle.adds).await?;
    let bundle = Arc::new(bundle);
    for _ in 0..SNAPSHOTS {
        if let Some(first) = cx.log.repeated(stream.id, &bundle.identity).await? {
            return Ok(with_epoch(first));
        }
        let row = cx.log.row(stream.id).await?;
        match attempt(cx, caller, &stream, &bundle, (&row, &homes)).await {
            Ok(Some(accepted)) => return Ok(with_epoch(accepted)),
            Ok(None) => {}
            Err(failure) => {
                // A concurrent repeat of the call may have been quicker: then its answer is ours.
                if let Some(first) = cx.log.repeated(stream.id, &bundle.identity).await? {
                    return Ok(with_epoch(first));
                }
                // What was read while seats changed may contradict itself: only a quiet stream refuses.
                if cx.log.row(stream.id).await?.rules == row.rules {
                    return Err(failure);
                }
            }
        }
    }
    Err(Fault::Unavailable.into())
}

/// Judges against the stream as it is now, and writes; nothing if seats changed meanwhile.
async fn attempt<E: Named>(
    cx: &Services,
    caller: &Device,
    stream: &StreamInfo,
    bundle: &Arc<Bundle>,
    (row, homes): (&StreamRow, &Homes),
) -> Result<Option<Accepted>, Failure<E>> {
    let snapshot = Snapshot::take(cx, caller, stream, bundle, (row, homes)).await?;
    let verified = snapshot.judge(cx, caller, stream, bundle).await?;
    let judged = Judged { snapshot: &snapshot, verified: &verified, homes };
    storage::retrying(Failure::is_collision, || record(cx, caller, stream, judged, bundle.identity)).await
}

/// The epoch that a commit's entry made: the one after the one it left.
fn with_epoch(accepted: Accepted) -> (Accepted, Epoch) {
    let epoch = accepted.epoch.map_or(Epoch(0), Epoch::next);
    (accepted, epoch)
}
