//! Servers that speak with servers.

pub mod replica;
