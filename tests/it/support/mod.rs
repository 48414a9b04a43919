//! What tests stand on. People, databases and servers come from `rookery-testkit`; here are the fakes that only these
//! tests need: homes and groups made by hand.

pub mod bent;
mod bulk;
pub mod bytes;
pub mod fake_home;
mod following;
mod handmade;
mod instances;
mod maker;
mod two_servers;
mod written;

pub use bent::{BentHome, Chain};
pub use bulk::write_messages;
pub use following::{Following, SEATED, json, no, seq, state, told};
pub use handmade::{Handmade, addition, listed, removal};
pub use instances::Instances;
pub use maker::{DAY_S, Maker};
pub use rookery_testkit::{
    AccountToken, Answer, Behaviour, Call, ChildServer, Contacts, Events, Fate, Faults, Federation, Fleet, Load,
    Member, Peers, PgBouncer, PostgresProxy, Process, Proxy, Redis, Request, RoundRobin, Said, Socket, Stalling,
    Stranger, TestDatabase, TestServer, Told, Version, Volume, at_once, befriend, certify, chance, command_with,
    conversation, grow, idem, open_folder, paged, person, refused,
};
pub use two_servers::{TwoServers, allow, bring, caught_up, eventually, row, seat, send_many};
pub use written::Written;
