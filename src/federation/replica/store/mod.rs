//! All SQL of replication.

mod before;
mod evidence;
mod followers;
pub(super) mod handover;
mod homes;
mod replicas;
mod rewind;
pub(super) mod snapshot;
mod support;

pub(super) use before::before;
pub(super) use evidence::*;
pub(super) use followers::*;
pub(super) use handover::{find_handover, handed_at};
pub(super) use homes::*;
pub(super) use replicas::*;
pub(super) use rewind::*;
pub(super) use support::*;
