//! Listings of an account with 500 conversations, one call after the other. A unit is a call.

use std::time::Instant;

use anyhow::{Context, ensure};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery::lexicon::mls::get_convos::{self, GetConvos};

use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::report::Row;
use crate::seed::Seed;
use crate::senders::Sent;
use crate::stage::Stage;

pub const SCENARIO: Scenario = Scenario::new("listings", &[CONVOS, EVENTS], |bench| Box::pin(run(bench)));

const CONVOS: &str = "getConvos";
const EVENTS: &str = "listEvents";
const CONVERSATIONS: usize = 500;
/// Messages in each conversation: the answer counts those that the account has not read.
const MESSAGES: usize = 20;
const PAGE: u64 = 100;
const PAGE_LENGTH: usize = 100;
/// Calls before the measurement, and calls of the measurement.
const WARM_UP: usize = 20;
const CALLS: usize = 200;

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage("listings").await?;
    let reader = stage.people(1).await?.pop().context("no reader")?;
    let streams = stage.conversations(std::slice::from_ref(&reader), CONVERSATIONS).await?;
    let author = (reader.did(), reader.device());
    Seed::at(&stage.database).await?.messages(&streams, author, MESSAGES).await?;
    let convos = async || {
        let params = get_convos::Params { limit: PAGE, cursor: None };
        Ok(reader.query::<GetConvos>(&params).await?.convos.len())
    };
    let events = async || {
        let params = list_events::Params { cursor: Some("0".to_owned()), limit: PAGE };
        Ok(reader.query::<ListEvents>(&params).await?.events.len())
    };
    let rows = vec![measured(bench, &stage, CONVOS, convos).await?, measured(bench, &stage, EVENTS, events).await?];
    stage.stop().await?;
    Ok(rows)
}

/// Measures calls that answer the length of their page.
async fn measured(
    bench: &Bench,
    stage: &Stage,
    name: &'static str,
    call: impl AsyncFn() -> anyhow::Result<usize>,
) -> anyhow::Result<Row> {
    for _ in 0..WARM_UP {
        ensure!(call().await? == PAGE_LENGTH, "a page of {name} is not full");
    }
    let (meter, began) = (Meter::begin(stage, &bench.postgres).await?, Instant::now());
    let mut latencies = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let at = Instant::now();
        ensure!(call().await? == PAGE_LENGTH, "a page of {name} is not full");
        latencies.push(at.elapsed());
    }
    latencies.sort_unstable();
    meter.row(name, 1, Sent { latencies, lasted: began.elapsed() }).await
}
