//! Servers that never met.

mod doors;
mod harness;
mod proxy;
