//! Key packages: pools for each device and suite.
//!
//! Invariants: a package enters a pool only after it was checked for the device that publishes it; a one-time package is
//! claimed once, for one stream, and never returns; only certified devices are offered.

mod answer;
pub(super) mod claim_key_packages;
pub(super) mod get_key_package_status;
pub(super) mod get_key_packages;
mod outcome;
mod publish;
pub(super) mod publish_key_package;
pub(super) mod publish_key_packages;
mod purpose;
mod store;
