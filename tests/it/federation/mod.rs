//! Servers that never met.

mod harness;
mod proxy;
