//! What tests stand on: a database, a server, and people who call it.

mod at_once;
pub mod bent;
mod bulk;
pub mod bytes;
mod chance;
mod child;
mod contacts;
mod events;
pub mod fake_home;
mod federation;
mod fleet;
mod following;
mod handmade;
mod load;
mod maker;
mod peers;
mod people;
mod postgres;
mod postgres_proxy;
mod proxy;
mod raw;
mod redis;
mod server;
mod socket;
mod stalling;
mod stranger;
mod two_servers;
mod volume;
mod written;

pub use at_once::at_once;
pub use bent::{BentHome, Chain};
pub use bulk::write_messages;
pub use chance::chance;
pub use child::{ChildServer, Process, command, command_with, person};
pub use contacts::{Contacts, befriend};
pub use events::{Events, Told};
pub use federation::{Federation, Member};
pub use fleet::Fleet;
pub use following::{Following, SEATED, json, no, seq, state, told};
pub use handmade::{Handmade, addition, listed, removal};
pub use load::Load;
pub use maker::{DAY_S, Maker};
pub use peers::Peers;
pub use people::{AccountToken, certify, conversation, grow, idem, paged, refused};
pub use postgres::TestDatabase;
pub use postgres_proxy::PostgresProxy;
pub use proxy::{Fate, Faults, Proxy};
pub use raw::{Answer, Request};
pub use redis::Redis;
pub use server::TestServer;
pub use socket::{Said, Socket};
pub use stalling::Stalling;
pub use stranger::{Behaviour, Call, Stranger};
pub use two_servers::{TwoServers, allow, bring, caught_up, eventually, row, seat, send_many};
pub use volume::Volume;
pub use written::Written;

/// A temporary folder that a private Postgres can get at: started as root, it runs as somebody else.
pub fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
