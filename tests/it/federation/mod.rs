//! Servers that never met.

mod courier;
mod deliveries;
mod doors;
mod erasures;
pub mod forgotten;
mod forks;
mod forwarding;
mod harness;
pub mod joining;
mod joining_claims;
mod joining_consent;
mod leaving;
mod moving;
mod partitions;
mod proxy;
mod receipts;
mod recoveries;
mod restores;
mod resuming;
mod seats;
mod versions;
mod watching;
