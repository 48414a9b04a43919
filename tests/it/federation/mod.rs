//! Servers that never met.

mod doors;
mod forwarding;
mod courier;
mod forks;
mod harness;
pub mod joining;
mod proxy;
mod receipts;
mod restores;
