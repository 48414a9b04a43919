//! A message to a conversation of 2 seats, and of 5,000: the most leaves that a group may have. A unit is a message.
//!
//! Invariant: statements and rows of one message do not depend on the number of seats.

use std::time::Duration;

use anyhow::Context;

use super::groups::Hall;
use super::{Bench, Scenario};
use crate::listeners::Listening;
use crate::meter::Meter;
use crate::report::Row;
use crate::seed::Seed;
use crate::senders::Sent;
use crate::sockets::{self, SETTLES};

pub const SCENARIO: Scenario = Scenario::new("seats", &[FEW, MANY], |bench| Box::pin(run(bench)));

const FEW: &str = "seats-2";
const MANY: &str = "seats-5000";
const SEATS: [usize; 2] = [2, 5000];
/// The pause between two messages: each message has statements of its own.
const PACE: Duration = Duration::from_millis(25);
/// After its start an instance sends NOTIFY for this long, because another instance may exist.
const ALONE_AFTER: Duration = Duration::from_secs(26);

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let (few, few_counts) = measured(bench, FEW, SEATS[0]).await?;
    let (many, many_counts) = measured(bench, MANY, SEATS[1]).await?;
    let more = |of: fn((f64, f64)) -> f64| many_counts.zip(few_counts).map(|(many, few)| of(many) - of(few));
    let figures = vec![("more_statements", more(|counts| counts.0)), ("more_rows", more(|counts| counts.1))];
    Ok(vec![few, Row { figures: [many.figures.clone(), figures].concat(), ..many }])
}

/// The row, and the whole statements and rows of each message.
async fn measured(bench: &Bench, name: &'static str, seats: usize) -> anyhow::Result<(Row, Option<(f64, f64)>)> {
    let stage = bench.stage(name).await?;
    let hall = Hall::open(&stage, 1).await?;
    // The sender and the listener have two of the seats.
    Seed::at(&stage.database).await?.members(&hall.stream, seats.saturating_sub(2)).await?;
    let mut listening = Listening::begin(sockets::open(&hall.listeners, 1, 0, None).await?);
    tokio::time::sleep(SETTLES.max(ALONE_AFTER)).await;
    listening.deliver(&hall.sender, PACE, PACE * 8).await?;
    let (meter, time) = (Meter::begin(&stage, &bench.postgres).await?, bench.run.duration() / 2);
    let latencies = listening.deliver(&hall.sender, PACE, time).await?;
    let row = meter.row(name, 1, Sent { latencies, lasted: time }).await?;
    listening.stop().await;
    stage.stop().await.context("a server of the scenario seats")?;
    let whole = row.counts.as_ref().and_then(|counts| counts.whole(row.units));
    let figures = vec![("whole_statements", whole.map(|whole| whole.0)), ("whole_rows", whole.map(|whole| whole.1))];
    Ok((Row { figures, ..row }, whole))
}
