//! The attacks: one file each, whose comment says what the attack tries and which bound holds.

mod bad_tokens;
mod claimed_again;
mod closed_windows;
mod device_resets;
mod did_documents;
mod erased_messages;
mod fat_pages;
mod filling;
mod halted_postgres;
mod hang_ups;
mod hot_stream;
mod idle_connections;
mod idle_http2;
mod imported_homes;
mod large_trees;
mod many_pairings;
mod many_reads;
mod maximal_commits;
mod maximal_messages;
mod metrics_scrapes;
mod nul_characters;
mod ping_flood;
mod probe_flood;
mod raw_device;
mod silent_postgres;
mod slow_bodies;
mod slow_commits;
mod slow_heads;
mod slow_postgres;
mod stalling_peers;
mod unknown_targets;
mod unread_streams;
mod waves;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::target::Target;

/// What an attack answers: what its attackers did and were told.
type Running = Pin<Box<dyn Future<Output = anyhow::Result<String>> + Send>>;

pub struct Attack {
    pub name: &'static str,
    /// Settings of the server beside the usual ones.
    pub settings: &'static [(&'static str, &'static str)],
    pub database: Database,
    pub run: fn(Arc<Target>) -> Running,
}

/// How the server under attack reaches its database.
#[derive(Clone, Copy)]
pub enum Database {
    Direct,
    /// By a proxy whose open connections may fall silent.
    Silent,
    /// By a proxy that may stand still or be slow.
    Stalling,
}

impl Attack {
    const fn new(name: &'static str, run: fn(Arc<Target>) -> Running) -> Self {
        Self { name, settings: &[], database: Database::Direct, run }
    }

    const fn with(mut self, settings: &'static [(&'static str, &'static str)]) -> Self {
        self.settings = settings;
        self
    }

    const fn by(mut self, database: Database) -> Self {
        self.database = database;
        self
    }
}

/// Every attack, in the order in which they run.
pub const ATTACKS: &[Attack] = &[
    slow_bodies::ATTACK,
    slow_commits::ATTACK,
    slow_heads::ATTACK,
    idle_connections::ATTACK,
    idle_http2::ATTACK,
    closed_windows::ATTACK,
    probe_flood::ATTACK,
    metrics_scrapes::ATTACK,
    nul_characters::ATTACK,
    bad_tokens::ATTACK,
    did_documents::ATTACK,
    unknown_targets::ATTACK,
    many_pairings::ATTACK,
    device_resets::ATTACK,
    claimed_again::ATTACK,
    imported_homes::ATTACK,
    stalling_peers::ATTACK,
    large_trees::ATTACK,
    maximal_messages::ATTACK,
    maximal_commits::ATTACK,
    fat_pages::ATTACK,
    unread_streams::ATTACK,
    ping_flood::ATTACK,
    many_reads::ATTACK,
    hang_ups::ATTACK,
    hot_stream::ATTACK,
    erased_messages::ATTACK,
    slow_postgres::ATTACK,
    silent_postgres::ATTACK,
    halted_postgres::ATTACK,
];
