//! Sockets of devices in whose conversations nothing happens; each account is seated in ten. A unit is an opened socket.

use std::time::Instant;

use rookery::types::Did;

use super::{Bench, Scenario};
use crate::listeners::Listening;
use crate::meter::Meter;
use crate::progress::note;
use crate::report::{Row, as_f64};
use crate::seed::Seed;
use crate::senders::Sent;
use crate::sockets::{self, SETTLES, SOCKETS_PER_DEVICE};
use crate::usage;

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "idle-sockets";
/// Conversations in which each account is seated.
const SEATS: usize = 10;
/// Accounts that found the conversations, in turns.
const FOUNDERS: usize = 16;

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(NAME).await?;
    let count = bench.run.sockets;
    let people = stage.people(count.div_ceil(SOCKETS_PER_DEVICE)).await?;
    let founders = stage.people(FOUNDERS).await?;
    // Two accounts for each conversation, ten conversations for each account: twenty seats in each conversation.
    let streams = stage.conversations(&founders, people.len().div_ceil(2).max(SEATS)).await?;
    let seats: Vec<(&str, &Did)> = people
        .iter()
        .enumerate()
        .flat_map(|(number, person)| {
            let streams = &streams;
            (0..SEATS).map(move |seat| (streams[(number + seat) % streams.len()].as_str(), person.did()))
        })
        .collect();
    Seed::at(&stage.database).await?.seats(&seats).await?;
    note(&format!("{NAME}: {} accounts in {} conversations", people.len(), streams.len()));
    let memory = usage::resident(stage.pid()?)?;
    let (meter, began) = (Meter::begin(&stage, &bench.postgres).await?, Instant::now());
    let opened = sockets::open(&people, count, 0, None).await?;
    let sent = Sent { latencies: vec![began.elapsed(); opened.len()], lasted: began.elapsed() };
    let mut listening = Listening::begin(opened);
    let row = meter.row(NAME, count, sent).await?;
    tokio::time::sleep(SETTLES).await;
    let more = usage::resident(stage.pid()?)?.saturating_sub(memory);
    note(&format!("{NAME}: {count} sockets are open"));
    let resting = Meter::begin(&stage, &bench.postgres).await?;
    tokio::time::sleep(bench.run.duration()).await;
    let rest = resting.row(NAME, count, Sent { latencies: Vec::new(), lasted: bench.run.duration() }).await?;
    listening.all_are_live()?;
    listening.stop().await;
    stage.stop().await?;
    let seconds = bench.run.duration().as_secs_f64();
    let figures = vec![
        ("server_rest_percent", Some(100.0 * rest.server.as_secs_f64() / seconds)),
        ("postgres_rest_percent", Some(100.0 * rest.postgres.as_secs_f64() / seconds)),
    ];
    #[expect(clippy::cast_precision_loss, reason = "bytes of one run are far below 2^52")]
    let memory = Some(more as f64 / as_f64(count));
    Ok(vec![Row { memory, latencies: Vec::new(), figures, ..row }])
}
