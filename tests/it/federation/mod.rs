//! Servers that never met.

mod doors;
mod forwarding;
mod harness;
mod proxy;
