//! How many bytes of body each method takes.

use crate::config::Bodies;
use crate::federation::replica::{REQUEST_BYTES, TRANSFER_BYTES};

/// Methods whose body is one message, or a batch of key packages.
const MESSAGES: &[&str] = &["blue.catbird.mls.sendMessage", "blue.catbird.mls.publishKeyPackages"];
/// Methods whose body holds a commit, a Welcome and a GroupInfo with its tree.
const COMMITS: &[&str] = &[
    "blue.catbird.mls.createConvo",
    "blue.catbird.mls.addMembers",
    "blue.catbird.mls.removeMembers",
    "blue.catbird.peer.deliver",
    "blue.catbird.account.importData",
];

/// Entries for followers, as bytes; their envelope is small.
const ENTRIES: &str = "blue.catbird.peer.replicate";
/// The snapshot for the next home of a stream.
const TRANSFER: &str = "blue.catbird.peer.transferHome";
/// Twice 1,024 headers of 512 bytes.
const PROOF: &str = "blue.catbird.peer.reportFork";
const PROOF_BYTES: usize = 2 * 1024 * 512 + 16 * 1024;

/// JSON carries bytes as base64, four characters for three, with a little around them.
const fn as_json(decoded_bytes: usize) -> usize {
    decoded_bytes / 3 * 4 + 64 * 1024
}

/// The greatest body of this method, in bytes on the wire. The configured limits count decoded bytes.
pub fn body_bytes(nsid: &str, bodies: &Bodies) -> usize {
    if COMMITS.contains(&nsid) {
        as_json(bodies.commit_bytes)
    } else if MESSAGES.contains(&nsid) {
        as_json(bodies.message_bytes)
    } else if nsid == ENTRIES {
        REQUEST_BYTES
    } else if nsid == TRANSFER {
        TRANSFER_BYTES
    } else if nsid == PROOF {
        as_json(PROOF_BYTES)
    } else {
        bodies.ordinary_bytes
    }
}

/// The greatest body that any method takes: what announces more is not even looked at.
pub fn greatest_bytes(bodies: &Bodies) -> usize {
    let of_clients = as_json(bodies.commit_bytes).max(as_json(bodies.message_bytes)).max(bodies.ordinary_bytes);
    of_clients.max(REQUEST_BYTES).max(TRANSFER_BYTES).max(as_json(PROOF_BYTES))
}
