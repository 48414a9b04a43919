//! A measurement: what the server and Postgres used between two moments.

use std::time::Duration;

use crate::report::Row;
use crate::senders::Sent;
use crate::stage::{Postgres, Stage};
use crate::{statements, usage};

/// What the server and Postgres had used when a measurement began.
pub struct Meter {
    database: String,
    /// Process ids of the server and of Postgres.
    pids: (u32, u32),
    used: (Duration, Duration),
    counts: bool,
}

impl Meter {
    pub async fn begin(stage: &Stage, postgres: &Postgres) -> anyhow::Result<Self> {
        let counts = statements::begin(&stage.database).await?;
        let pids = (stage.pid()?, postgres.pid());
        Ok(Self { database: stage.database.clone(), pids, used: Self::used(pids)?, counts })
    }

    fn used((server, postgres): (u32, u32)) -> anyhow::Result<(Duration, Duration)> {
        Ok((usage::of_process(server)?, usage::of_family(postgres)?))
    }

    /// The row of the measurement, which ends here. Each latency is a unit of work.
    pub async fn row(self, name: &'static str, clients: usize, sent: Sent) -> anyhow::Result<Row> {
        let used = Self::used(self.pids)?;
        let counts = if self.counts { Some(statements::counted(&self.database).await?) } else { None };
        Ok(Row {
            clients,
            units: sent.latencies.len(),
            lasted: sent.lasted,
            latencies: sent.latencies,
            server: used.0.saturating_sub(self.used.0),
            postgres: used.1.saturating_sub(self.used.1),
            counts,
            ..Row::empty(name)
        })
    }
}
