//! Where the public vectors of AT Protocol lie (github.com/bluesky-social/atproto-interop-tests): `make vectors`.

use std::path::PathBuf;

/// The folder `atproto` in the folder that `VECTORS_DIR` names; a test without the folder fails with its name.
pub fn folder() -> PathBuf {
    let folder = std::env::var("VECTORS_DIR").expect("VECTORS_DIR names the folder of the public vectors");
    let folder = PathBuf::from(folder).join("atproto");
    assert!(folder.is_dir(), "the public vectors are not in {}", folder.display());
    folder
}
