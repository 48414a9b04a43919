//! Other servers: who they are, what they may ask, and what is asked of them.

pub mod joining;
mod stub;

pub use stub::{AccountHome, Actor, Age, CallError, Federation, HomeUnverified};
