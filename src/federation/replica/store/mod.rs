//! All SQL of replication.

mod evidence;
mod followers;
pub(super) mod handover;
mod homes;
mod replicas;
pub(super) mod snapshot;
mod support;

pub(super) use evidence::*;
pub(super) use followers::*;
pub(super) use handover::{find_handover, handed_at};
pub(super) use homes::*;
pub(super) use replicas::*;
pub(super) use support::*;
