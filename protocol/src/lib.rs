//! What servers and clients of Rookery must agree on byte for byte: the vocabulary, the methods, the signatures of
//! devices, and the entries of a stream. Pure: no IO, no clock of its own, no database, no HTTP.
//!
//! The modules stand in the order of their layers: each imports only from those above it in this list.

pub mod types;

pub mod lexicon;

pub mod identity;

pub mod log;

#[cfg(all(test, feature = "vectors"))]
mod vectors;
