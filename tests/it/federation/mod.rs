//! Servers that never met.

mod doors;
mod harness;
mod joining;
mod proxy;
