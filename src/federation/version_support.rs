//! The kinds and features of versions, as servers exchange them in `peer.follow`.
//!
//! Invariant: every server counts as knowing the kinds of protocol version 1; a server counts as knowing a later kind
//! or a feature only if its `support` names it.

use super::joining::delivery;
use crate::lexicon::peer::defs::Support;
use crate::log::{self, EntryKind};
use crate::types::Hash;

/// Version of the protocol between servers, docs/FEDERATION.md.
pub const PROTOCOL_VERSION: u64 = 1;

/// Version of the software.
pub const VERSION: &str = if cfg!(feature = "next-version") {
    concat!(env!("CARGO_PKG_VERSION"), "+next-version")
} else {
    env!("CARGO_PKG_VERSION")
};

/// The `support` of this version.
pub fn own_support() -> Support {
    Support {
        version: VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        entry_kinds: EntryKind::ALL.iter().map(|kind| kind.name().to_owned()).collect(),
        delivery_kinds: delivery::KINDS.iter().map(|&kind| kind.to_owned()).collect(),
        features: log::FEATURES.iter().map(|&feature| feature.to_owned()).collect(),
    }
}

/// A digest of `support`: different contents have different digests.
pub fn support_digest(support: &Support) -> String {
    let Support { version, protocol_version, entry_kinds, delivery_kinds, features } = support;
    let text = format!("{version:?} {protocol_version} {entry_kinds:?} {delivery_kinds:?} {features:?}");
    hex::encode(&Hash::of(text.as_bytes()).0[..16])
}

#[cfg(test)]
mod tests {
    use super::{own_support, support_digest};

    #[test]
    fn one_more_kind_changes_the_digest() {
        let own = own_support();
        let mut later = own.clone();
        later.delivery_kinds.push("later".to_owned());
        assert_eq!(support_digest(&own), support_digest(&own_support()));
        assert_ne!(support_digest(&own), support_digest(&later));
    }
}
