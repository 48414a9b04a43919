//! What the next home cannot read from the log: GroupInfos, the keys of leaves, whose calls the entries were, and the word
//! of earlier homes for their reigns.

use serde::{Deserialize, Serialize};

use super::SNAPSHOT_BYTES;
use crate::log::Error;
use crate::log::chain::{decode, encode};
use crate::log::lineage::LineageLink;
use crate::types::{Bytes, DeviceId, Did, Epoch, Refusal, Seq};

const VERSION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::federation::replica) struct Snapshot {
    v: u8,
    pub group_infos: Vec<GroupInfo>,
    pub keys: Vec<LeafKey>,
    /// Devices that calls name by their place here.
    pub callers: Vec<Caller>,
    pub calls: Vec<CallOf>,
    /// From the founding on.
    pub lineage: Vec<LineageLink>,
}

/// Of one of the last epochs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::federation::replica) struct GroupInfo {
    pub epoch: Epoch,
    pub bytes: Bytes,
}

/// The signature key of a leaf, as the tree shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::federation::replica) struct LeafKey {
    pub account: Did,
    pub device: DeviceId,
    pub key: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::federation::replica) struct Caller {
    pub account: Did,
    pub device: DeviceId,
}

/// Who made an entry, by which call: entry, place among the callers, the call's identity, and the SHA-256 of its body.
/// The last two are empty once they are forgotten.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::federation::replica) struct CallOf(pub Seq, pub u64, pub Bytes, pub Bytes);

impl Snapshot {
    pub fn new(group_infos: Vec<GroupInfo>, keys: Vec<LeafKey>, lineage: Vec<LineageLink>) -> Self {
        Self { v: VERSION, group_infos, keys, callers: Vec::new(), calls: Vec::new(), lineage }
    }

    /// `TransferRefused` where it is too much for one body.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let bytes = encode(self, "snapshot")?;
        if bytes.len() > SNAPSHOT_BYTES {
            return Err(Refusal::new("TransferRefused", "what goes with the stream is more than 32 MiB").into());
        }
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Refusal::new("Malformed", "the snapshot is not one");
        let snapshot: Self = decode(bytes, "snapshot").map_err(|_| malformed())?;
        let fits = |call: &CallOf| {
            let caller = usize::try_from(call.1).is_ok_and(|place| place < snapshot.callers.len());
            let identity = (call.2.0.len(), call.3.0.len());
            caller && [(16, 32), (0, 0)].contains(&identity)
        };
        if snapshot.v == VERSION && snapshot.calls.iter().all(fits) { Ok(snapshot) } else { Err(malformed()) }
    }
}
