//! Servers that never met.

mod courier;
mod forks;
mod harness;
mod proxy;
mod receipts;
mod restores;
