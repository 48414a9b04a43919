//! The scenarios: the senders, the listeners and the figures of each.

mod backfill;
mod fan_out;
mod groups;
mod idle_sockets;
mod key_packages;
mod listings;
mod messages;
mod mixed_chat;
mod reconnect_storm;
mod seats;
mod stalled_readers;
mod start;

use futures_util::future::LocalBoxFuture;

use crate::Run;
use crate::report::Row;
use crate::stage::{Postgres, Stage};

/// What all scenarios of a run share.
pub struct Bench {
    pub run: Run,
    pub postgres: Postgres,
}

impl Bench {
    /// A server of its own for a scenario, on a new database.
    async fn stage(&self, name: &str) -> anyhow::Result<Stage> {
        let database = self.postgres.database(&name.replace('-', "_")).await?;
        Stage::start(&self.run.program(), database).await
    }
}

type Measure = for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, anyhow::Result<Vec<Row>>>;

pub struct Scenario {
    pub name: &'static str,
    /// The names of the rows that the scenario measures.
    pub rows: &'static [&'static str],
    measure: Measure,
}

impl Scenario {
    const fn new(name: &'static str, rows: &'static [&'static str], measure: Measure) -> Self {
        Self { name, rows, measure }
    }

    pub async fn measure(&self, bench: &Bench) -> anyhow::Result<Vec<Row>> {
        (self.measure)(bench).await
    }
}

/// In the order in which a run measures them.
pub const SCENARIOS: &[Scenario] = &[
    messages::FIRST_TOUCH,
    messages::SINGLE_SENDER,
    messages::MANY_CONVERSATIONS,
    messages::HOT_CONVERSATION,
    fan_out::SCENARIO,
    stalled_readers::SCENARIO,
    idle_sockets::SCENARIO,
    reconnect_storm::SCENARIO,
    seats::SCENARIO,
    backfill::SCENARIO,
    listings::SCENARIO,
    key_packages::SCENARIO,
    mixed_chat::SCENARIO,
    start::SCENARIO,
];
