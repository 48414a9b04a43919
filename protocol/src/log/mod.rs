//! The entries of a stream: their kinds, their bytes, and what links them.

pub mod body;
pub mod chain;
mod kind;

pub use chain::{Content, Head, Sealed};
pub use kind::{EntryKind, StreamKind};
