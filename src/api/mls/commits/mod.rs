//! Commits: how the roster of a conversation changes.
//!
//! Invariant: the declared changes equal the difference of leaves between the stored tree and the one in the GroupInfo;
//! one commit wins an epoch, and everything that follows from it is written with its entry.

pub(super) mod add_members;
mod elsewhere;
pub(super) mod get_group_state;
mod intake;
mod model;
mod newcomers;
mod record;
pub(super) mod remove_members;
mod snapshot;
mod store;
