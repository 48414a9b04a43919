//! The cipher suites that this server serves, by number alone: drafts reuse numbers above 7 for different suites.

/// 0x0001 (AES-128-GCM) and 0x0003 (ChaCha20-Poly1305) of RFC 9420 section 17.1, both X25519 and Ed25519.
///
/// A leaf's signature key is one of its device's keys, and those are compared as raw bytes: a device whose own key is no
/// Ed25519 key lists one among its further MLS keys. 0x0002 (P-256) waits until somebody needs it.
pub const SUITES: [u16; 2] = [0x0001, 0x0003];

pub(super) fn is_allowed(suite: u16) -> bool {
    SUITES.contains(&suite)
}
