//! Features that entries of later versions may require.
//!
//! Invariant: the server stores and shows an entry that requires an unknown feature like any other; after it the server
//! accepts no entry of the stream, neither its own nor its home's, until a version that knows the feature applies the
//! entry.

/// The features that this version knows, which an entry may name in its header.
pub const FEATURES: &[&str] = &[
    #[cfg(feature = "next-version")]
    "test.next-version",
];

/// The most features that the entries of one stream may require together.
pub(super) const FEATURES_PER_STREAM: usize = 16;

/// Whether this version lacks one of these features.
pub(super) fn lacks(required: &[String]) -> bool {
    !required.iter().all(|feature| FEATURES.contains(&feature.as_str()))
}

#[cfg(test)]
mod tests {
    use super::{FEATURES, lacks};
    use crate::log::chain::is_feature;

    #[test]
    fn a_stream_that_requires_nothing_lacks_nothing() {
        assert!(!lacks(&[]));
        assert!(lacks(&["test.future".to_owned()]));
        assert!(FEATURES.iter().all(|feature| is_feature(feature)));
        assert!(!lacks(&FEATURES.iter().map(|&feature| feature.to_owned()).collect::<Vec<_>>()));
    }
}
