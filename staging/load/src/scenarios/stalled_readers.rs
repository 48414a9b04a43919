//! Sockets that read beside sockets of the same conversation that read nothing. A unit is a delivery to a reading socket.
//!
//! Invariant: a stalled socket counts only while the server's kernel holds bytes that the socket did not take: 95 % of the
//! stalled sockets do so at the beginning and at the end of each measurement.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::groups::Hall;
use super::{Bench, Scenario};
use crate::listeners::Listening;
use crate::meter::Meter;
use crate::progress::note;
use crate::report::{Row, milliseconds, percentile};
use crate::senders::{Sender, Sent};
use crate::sockets::{self, SETTLES, SOCKETS_PER_DEVICE};
use crate::usage;

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "stalled-readers";
/// Pairs of measurements: without the stalled sockets, and with them.
const ROUNDS: usize = 5;
/// The pause between two messages.
const PACE: Duration = Duration::from_millis(200);
/// Bytes of the receive buffers of stalled sockets: the kernel takes its least.
const WINDOW: u32 = 1;
/// Bytes of plaintext of the messages that fill the kernel's buffers of the stalled sockets, in a conversation of the
/// stalled accounts alone; the pause after a message.
const FILLER: usize = 64 * 1024;
const FILLING_PAUSE: Duration = Duration::from_millis(100);
/// The buffers are full by then: later the server would close sockets that it found stalled at first.
const FILLS_WITHIN: Duration = Duration::from_secs(12);
/// Looks at the buffers, one after the other, between which they do not grow when they are full.
const FULL_LOOKS: usize = 3;

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(NAME).await?;
    let count = bench.run.readers;
    let accounts = count.div_ceil(SOCKETS_PER_DEVICE);
    let hall = Hall::open(&stage, 2 * accounts).await?;
    let (good, bad) = hall.listeners.split_at(accounts);
    let filler = hall.beside(&stage, bad, FILLER).await?;
    let mut listening = Listening::begin(sockets::open(good, count, 0, None).await?);
    tokio::time::sleep(SETTLES).await;
    let time = bench.run.duration() * 2 / 5;
    let (meter, began) = (Meter::begin(&stage, &bench.postgres).await?, Instant::now());
    let (mut ratios, mut all): (Vec<f64>, Vec<Duration>) = (Vec::new(), Vec::new());
    let (mut p99_without, mut p99_with) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        // Every second round measures in the other order, so that the order does not decide.
        let mut quiet = Vec::new();
        if round % 2 == 1 {
            quiet = deliver(&mut listening, &hall.sender, time).await?;
        }
        let stalled = sockets::open(bad, count, count, Some(WINDOW)).await?;
        fill(stage.port(), count, &filler).await?;
        let beside = deliver(&mut listening, &hall.sender, time).await?;
        let (still, _) = usage::unsent(stage.port())?;
        ensure!(still * 100 >= count * 95, "{still} of {count} stalled sockets were still there");
        drop(stalled);
        tokio::time::sleep(SETTLES).await;
        if quiet.is_empty() {
            quiet = deliver(&mut listening, &hall.sender, time).await?;
        }
        let p99 = |delays: &[Duration]| percentile(delays, 99).map(milliseconds).context("no delivery");
        let p50 = |delays: &[Duration]| percentile(delays, 50).map(milliseconds).context("no delivery");
        let (without, with) = (p99(&quiet)?, p99(&beside)?);
        let (half_without, half_with) = (p50(&quiet)?, p50(&beside)?);
        note(&format!(
            "{NAME}: round {round}: p50 {half_without:.1} and p99 {without:.1} ms without, p50 {half_with:.1} and p99 \
             {with:.1} ms with stalled readers"
        ));
        ratios.push(with / without);
        p99_without.push(without);
        p99_with.push(with);
        all.extend(quiet);
        all.extend(beside);
    }
    all.sort_unstable();
    let row = meter.row(NAME, 2 * count, Sent { latencies: all, lasted: began.elapsed() }).await?;
    listening.stop().await;
    stage.stop().await?;
    let figures =
        vec![("p99_ratio", median(ratios)), ("p99_ms_without", median(p99_without)), ("p99_ms_with", median(p99_with))];
    Ok(vec![Row { figures, ..row }])
}

/// Delivers for so long, after a second that does not count.
async fn deliver(listening: &mut Listening, sender: &Sender, time: Duration) -> anyhow::Result<Vec<Duration>> {
    listening.deliver(sender, PACE, Duration::from_secs(1)).await?;
    listening.deliver(sender, PACE, time).await
}

/// Sends until the kernel's buffers of the stalled sockets are full.
async fn fill(port: u16, stalled: usize, filler: &Sender) -> anyhow::Result<()> {
    let (until, mut most, mut looks) = (Instant::now() + FILLS_WITHIN, 0, 0);
    while looks < FULL_LOOKS {
        filler.send(0).await?;
        tokio::time::sleep(FILLING_PAUSE).await;
        let (full, bytes) = usage::unsent(port)?;
        let grew = bytes > most + most / 100 || full * 100 < stalled * 95;
        looks = if grew { 0 } else { looks + 1 };
        most = most.max(bytes);
        ensure!(Instant::now() < until, "{full} of {stalled} stalled sockets have unsent bytes, {bytes} in all");
    }
    note(&format!("{NAME}: {most} bytes wait in the kernel for stalled sockets"));
    Ok(())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}
