//! What tests stand on: a database, a server, and people who call it.

mod child;
mod people;
mod postgres;
mod server;

pub use child::ChildServer;
pub use people::{conversation, grow, idem};
pub use server::TestServer;

/// A temporary folder that a private Postgres can get at: started as root, it runs as somebody else.
pub fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
