//! A Welcome's outside: for whom it is, and in which suite. Its inside is for the new members alone.

use super::limits::WELCOME_BYTES;
use super::refusals::{malformed, within};
use super::wire;
use crate::types::Refusal;

/// What the server can read of a Welcome (RFC 9420 section 12.4.3.1).
#[derive(Debug)]
pub(super) struct Outside {
    pub cipher_suite: u16,
    /// One key package reference per new member, in the Welcome's order.
    pub references: Vec<Vec<u8>>,
}

/// Reads an MLSMessage that holds a Welcome. `MalformedMessage` for anything else.
pub(super) fn read(bytes: &[u8]) -> Result<Outside, Refusal> {
    within(bytes, WELCOME_BYTES)?;
    let welcome = wire::Welcome::read(bytes).ok_or_else(|| malformed("the Welcome is not exactly one Welcome"))?;
    let references = welcome.secrets.into_iter().map(|secret| secret.new_member.into()).collect();
    Ok(Outside { cipher_suite: welcome.cipher_suite, references })
}
