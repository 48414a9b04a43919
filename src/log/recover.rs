//! `rookery recover`: a raise by the operator, after a restore that the server cannot detect.

use std::path::Path;

use super::watermark::Watermark;
use super::{Error, Raised, origin};
use crate::storage::Storage;
use crate::types::Clock;

/// Treats the database as one that went back in time. Servers that run on it notice with their next look, and end; those
/// that start afterwards belong to the new incarnation.
pub async fn recover(storage: &Storage, clock: &Clock, rollback_guard: Option<&Path>) -> Result<Raised, Error> {
    let guard = rollback_guard.map(|path| Watermark::new(path.to_owned()));
    origin::recover(storage, clock, guard.as_ref()).await
}
