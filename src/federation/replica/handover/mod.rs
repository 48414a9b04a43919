//! A home hands one of its streams to another server (docs/FEDERATION.md, "Moving a home").
//!
//! Invariants: one commit is the move, and nothing changes before it; the home orders nothing between the acceptance
//! and that commit; the next home has every entry, and derives all rights from the entries; it relies on the old home
//! only for the leaf keys of other servers' devices, which have no other source, and for no other right.

mod backfill;
mod come_back;
mod follow_up;
mod give;
mod receive;
mod snapshot;
mod wire;

pub use follow_up::Next;
pub use give::{HandError, Order};
pub(super) use snapshot::{CallOf, Caller, GroupInfo, LeafKey, Snapshot};
pub use wire::Transfer;

use std::time::Duration;

/// For so long the stream takes no entries, at most.
const HANDING: Duration = Duration::from_secs(30);
/// An acceptance counts for so long.
const ACCEPTED: Duration = Duration::from_mins(1);
/// The data outside of the log.
pub const SNAPSHOT_BYTES: usize = 32 << 20;
/// The body around it.
pub const TRANSFER_BYTES: usize = SNAPSHOT_BYTES + (4 << 10);
