//! What tests stand on: a database, a server, and people who call it.

mod postgres;
mod server;

pub use postgres::TestDatabase;
pub use server::TestServer;
