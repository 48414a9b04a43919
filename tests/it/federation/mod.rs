//! Servers that never met.

mod doors;
mod forwarding;
mod courier;
mod forks;
mod harness;
pub mod joining;
mod joining_claims;
mod joining_consent;
mod proxy;
mod receipts;
mod restores;
