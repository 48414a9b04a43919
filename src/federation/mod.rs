//! Servers that speak with servers.

pub mod joining;
pub mod replica;
mod stub;

pub use stub::{AccountHome, Actor, Age, CallError, Federation, HomeUnverified};
