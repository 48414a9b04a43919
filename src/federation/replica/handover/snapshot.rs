//! Data that the next home cannot read from the log: GroupInfos, the keys of leaves, the calls of entries, and the
//! checkpoints of earlier homes for their terms.

use std::collections::BTreeSet;

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
    /// From the creation of the stream on.
    pub lineage: Vec<LineageLink>,
}

/// The GroupInfo of one of the last epochs.
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

/// The author and the call of an entry: entry, place among the callers, the call's identity, and the SHA-256 of its
/// body. The last two are empty once they are forgotten.
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
        let rise = snapshot.calls.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let named: Vec<&[u8]> =
            snapshot.calls.iter().map(|call| call.2.as_slice()).filter(|idem| !idem.is_empty()).collect();
        let once = named.iter().collect::<BTreeSet<_>>().len() == named.len();
        let sound = snapshot.calls.iter().all(fits) && rise && once;
        if snapshot.v == VERSION && sound { Ok(snapshot) } else { Err(malformed()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str) -> Caller {
        Caller { account: Did::parse("did:plc:alice").unwrap(), device: DeviceId::of_key(name.as_bytes()) }
    }

    fn call(seq: u64, place: u64, idem: u8) -> CallOf {
        CallOf(Seq(seq), place, Bytes(vec![idem; 16]), Bytes(vec![9; 32]))
    }

    #[test]
    fn calls_name_a_caller_and_each_entry_and_each_identity_once() {
        let with = |calls: Vec<CallOf>| {
            let mut snapshot = Snapshot::new(Vec::new(), Vec::new(), Vec::new());
            snapshot.callers = vec![caller("one"), caller("two")];
            snapshot.calls = calls;
            Snapshot::decode(&snapshot.encode().unwrap())
        };
        let forgotten = |seq| CallOf(Seq(seq), 0, Bytes(Vec::new()), Bytes(Vec::new()));
        let good = vec![forgotten(1), forgotten(2), call(3, 0, 1), call(5, 1, 2)];
        assert_eq!(with(good.clone()).unwrap().calls, good);
        for bad in [
            vec![call(3, 2, 1)],
            vec![call(3, 0, 1), call(3, 0, 2)],
            vec![call(5, 0, 1), call(3, 0, 2)],
            vec![call(3, 0, 1), call(5, 1, 1)],
            vec![CallOf(Seq(3), 0, Bytes(vec![1; 15]), Bytes(vec![9; 32]))],
            vec![CallOf(Seq(3), 0, Bytes(vec![1; 16]), Bytes(Vec::new()))],
        ] {
            assert_eq!(with(bad).unwrap_err().name, "Malformed");
        }
    }
}
