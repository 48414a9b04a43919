//! The refusals that more than one file gives.

use crate::types::Refusal;

pub(super) fn malformed(why: &'static str) -> Refusal {
    Refusal::new("MalformedMessage", why)
}

pub(super) fn invalid_group_info(why: &str) -> Refusal {
    Refusal::new("InvalidGroupInfo", format!("the GroupInfo is not acceptable: {why}"))
}

pub(super) fn unsupported_suite(suite: u16) -> Refusal {
    let allowed = super::SUITES.map(|suite| format!("0x{suite:04x}")).join(", ");
    let detail = crate::types::Detail::new(format!("cipher suite 0x{suite:04x} is not one of {allowed}"));
    Refusal::new("UnsupportedCipherSuite", detail.with("cipherSuite", suite))
}

pub(super) fn membership(why: &'static str) -> Refusal {
    Refusal::new("MembershipMismatch", why)
}

/// Refuses before anything is parsed.
pub(super) fn within(bytes: &[u8], max: usize) -> Result<(), Refusal> {
    if bytes.len() > max { Err(malformed("the message is larger than this server accepts")) } else { Ok(()) }
}
