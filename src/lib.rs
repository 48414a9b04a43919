//! Rookery: a federated, AT-Protocol-native, end-to-end encrypted delivery and sync server.
//!
//! It knows who is speaking (DIDs), in what order things happened, and who may read them; it holds no key to what was
//! said. The modules stand in the order of their layers: each imports only from those above it in this list.

pub use rookery_protocol::{lexicon, types};

pub mod config;
pub mod limit;
pub mod telemetry;

pub mod storage;
pub mod worker;

pub mod identity;
pub mod mls;
pub mod quota;

pub mod log;

pub mod federation;

pub mod xrpc;

pub mod api;

pub mod server;

pub mod cli;
