//! Welcomes: stored once, a pointer for each device.

pub(super) mod ack_welcome;
pub(super) mod get_welcomes;
mod store;
