//! The calls that the server accepts while the disk has no room.

use super::{Fault, Services};
use crate::lexicon::{Kind, Method};
use crate::storage::Disk;

/// Procedures that take rights or rows away, or that subscriptions begin with: the server accepts them for as long as
/// Postgres does.
const TAKEN: &[&str] = &[
    "blue.catbird.account.revokeDevice",
    "blue.catbird.account.setBlock",
    "blue.catbird.event.getTicket",
    "blue.catbird.mls.ackWelcome",
    "blue.catbird.mls.declineConvo",
    "blue.catbird.mls.leaveConvo",
    "blue.catbird.mls.removeMembers",
    "blue.catbird.peer.unfollow",
];

/// The prefix of operators' methods: operators must be able to suspend the accounts that fill the disk.
const OPERATORS: &str = "blue.catbird.admin.";

/// Refuses a call that would fill a disk that has no room.
pub(super) fn admit<M: Method>(cx: &Services) -> Result<(), Fault> {
    let takes = M::KIND == Kind::Procedure && !TAKEN.contains(&M::NSID) && !M::NSID.starts_with(OPERATORS);
    if takes && cx.storage.disk() != Disk::Ok { Err(Fault::StorageFull) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lexicon::schema;

    #[test]
    fn every_call_accepted_on_a_full_disk_is_a_method() {
        for nsid in TAKEN {
            assert!(schema::methods().any(|(method, ..)| method == *nsid), "{nsid}");
        }
    }
}
