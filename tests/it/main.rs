//! One binary: a real server on a real Postgres, spoken to over HTTP. `support` starts them, the folders mirror
//! `src/api`, and `laws` holds what every method must obey.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "whatever a test cannot do fails it")]

mod account;
mod admin;
mod cli;
mod event;
mod federation;
mod laws;
mod mls;
mod peer;
mod server;
mod support;
