//! Every size that this module accepts. Sizes are in bytes; a larger message is `MalformedMessage`.

/// A commit or a proposal: 4 MiB less 64 KiB for the members that the entry's content names beside it.
pub const COMMIT_BYTES: usize = (4 << 20) - (64 << 10);
pub const WELCOME_BYTES: usize = 2 << 20;
/// A GroupInfo together with its ratchet tree.
pub const GROUP_INFO_BYTES: usize = 4 << 20;
pub const KEY_PACKAGE_BYTES: usize = 16 << 10;
/// An application message: 1 MiB less 64 KiB for what a request wraps around it.
pub const APPLICATION_BYTES: usize = 983_040;

/// Leaf slots of a tree, blank ones included. A blank costs its sender one byte and the verifier a hash, so that 4 MiB
/// of blanks would buy seconds of our time; this many leaves are half a second of signatures.
pub const LEAF_SLOTS: usize = 5_000;
/// A group id, as the lexicon carries it.
pub const GROUP_ID_BYTES: usize = 255;

/// A key package must live this much longer when it is published.
pub const KEY_PACKAGE_REMAINING_MS: i64 = 24 * 60 * 60 * 1000;
/// We stop handing out a key package after this long, whatever it says itself (some clients say a year, some forever).
pub const KEY_PACKAGE_KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;
