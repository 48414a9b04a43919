//! The entries of a stream: their kinds, their bytes, and what links them.

pub mod acceptance;
pub mod body;
pub mod chain;
pub mod fork;
mod kind;
pub mod lineage;

pub use chain::{Content, Head, Sealed};
pub use fork::{Fork, ForkProof, NoFork};
pub use kind::{EntryKind, NamedKind, StreamKind};
