//! What tests, benchmarks, the demo and attacks stand on: test people with keys of their own, a DID directory, throw-away
//! databases, servers in this process or as processes, and peers and clients that misbehave.
//!
//! Invariant: everything listens on loopback alone, and each process ends with the value that started it. The server
//! depends on nothing in this crate.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "whatever a test cannot do fails it")]

mod at_once;
mod chance;
mod child;
mod contacts;
mod directory;
mod events;
mod federation;
mod fleet;
mod load;
mod peers;
mod people;
mod pgbouncer;
mod postgres;
mod postgres_proxy;
mod proxy;
mod raw;
mod redis;
mod round_robin;
mod server;
mod socket;
mod stalling;
mod stranger;
mod volume;

pub use at_once::at_once;
pub use chance::chance;
pub use child::{ChildServer, Process, Version, command, command_with, person, server_program};
pub use contacts::{Contacts, befriend};
pub use directory::{Directory, Form, Identity};
pub use events::{Events, Told};
pub use federation::{FEDERATES, Federation, Member};
pub use fleet::Fleet;
pub use load::Load;
pub use peers::Peers;
pub use people::{AccountToken, certify, conversation, grow, idem, paged, refused};
pub use pgbouncer::PgBouncer;
pub use postgres::TestDatabase;
pub use postgres_proxy::PostgresProxy;
pub use proxy::{Fate, Faults, Proxy};
pub use raw::{Answer, Request};
pub use redis::Redis;
pub use round_robin::RoundRobin;
pub use server::TestServer;
pub use socket::{Said, Socket};
pub use stalling::Stalling;
pub use stranger::{Behaviour, Call, Stranger};
pub use volume::Volume;

/// A device of a test account; the test process holds the keys of both.
pub type Person = rookery_client::Device<Identity>;

/// A temporary folder that a private Postgres can get at: started as root, it runs as somebody else.
pub fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
