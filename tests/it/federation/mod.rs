//! Servers that never met.

mod courier;
mod doors;
mod forks;
mod forwarding;
mod harness;
mod joining;
mod proxy;
mod receipts;
mod restores;
