//! All SQL of replication.

mod evidence;
mod followers;
mod homes;
mod replicas;

pub(super) use evidence::*;
pub(super) use followers::*;
pub(super) use homes::*;
pub(super) use replicas::*;
