//! Claims of key packages for 50 devices of 10 accounts, by one account after the other, until the pools are empty and
//! beyond. A unit is a claim.
//!
//! Invariant: each device has one one-time package for each claim of the first row; claims of the second row get the
//! packages of last resort.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use rookery::types::Did;
use rookery_testkit::{Person, certify};

use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::report::{Row, as_f64};
use crate::senders::Sent;
use crate::stage::Stage;

pub const SCENARIO: Scenario = Scenario::new("key-packages", &[FULL, DRAINED], |bench| Box::pin(run(bench)));

const FULL: &str = "claim";
const DRAINED: &str = "claim-drained";
const ACCOUNTS: usize = 10;
const DEVICES_PER_ACCOUNT: usize = 5;
const DEVICES: usize = ACCOUNTS * DEVICES_PER_ACCOUNT;
/// One-time packages of each device. Strangers may claim 50 one-time packages of one account in a day: ten of a device.
const PACKAGES: usize = 8;
/// Claims of the second row.
const FURTHER_CLAIMS: usize = 8;

/// An account that claims, and its conversation.
struct Claimer {
    person: Arc<Person>,
    stream: String,
}

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage("key-packages").await?;
    let mut targets: Vec<Did> = Vec::with_capacity(ACCOUNTS);
    for _ in 0..ACCOUNTS {
        targets.push(account(&stage).await?);
    }
    let mut claimers = Vec::new();
    // The first claimer's call is no part of a row: it fills the caches of the look-ups.
    for person in stage.people(1 + PACKAGES + FURTHER_CLAIMS).await? {
        let stream = person.create_convo().await?;
        claimers.push(Claimer { person, stream });
    }
    let (warm_up, claimers) = claimers.split_first().context("no claimer")?;
    let (full, drained) = claimers.split_at(PACKAGES);
    claim(warm_up, &targets).await?;
    let full = measured(bench, &stage, FULL, full, &targets).await?;
    let drained = measured(bench, &stage, DRAINED, drained, &targets).await?;
    stage.stop().await?;
    Ok(vec![full, drained])
}

/// An account with certified devices, each with one-time packages and one of last resort.
async fn account(stage: &Stage) -> anyhow::Result<Did> {
    let first = stage.people(1).await?.pop().context("no first device")?;
    // The warm-up takes a package of each device.
    first.publish(PACKAGES + 1, true).await?;
    for number in 1..DEVICES_PER_ACCOUNT {
        let (account, service) = (Arc::clone(first.account()), Arc::clone(first.service()));
        let device = Person::new(&format!("device {number}"), account, service)?;
        certify(&first, &device).await;
        device.publish(PACKAGES + 1, true).await?;
    }
    Ok(first.did().clone())
}

/// The one-time packages among those of a claim for all devices.
async fn claim(claimer: &Claimer, targets: &[Did]) -> anyhow::Result<usize> {
    let claimed = claimer.person.claim(&claimer.stream, targets).await?;
    ensure!(claimed.len() == DEVICES, "a claim got packages of {} devices", claimed.len());
    Ok(claimed.iter().filter(|package| !package.last_resort).count())
}

/// Each of these claimers claims once.
async fn measured(
    bench: &Bench,
    stage: &Stage,
    name: &'static str,
    claimers: &[Claimer],
    targets: &[Did],
) -> anyhow::Result<Row> {
    let (meter, began) = (Meter::begin(stage, &bench.postgres).await?, Instant::now());
    let (mut latencies, mut one_time) = (Vec::with_capacity(claimers.len()), 0);
    for claimer in claimers {
        let at = Instant::now();
        one_time += claim(claimer, targets).await?;
        latencies.push(at.elapsed());
    }
    latencies.sort_unstable();
    let row = meter.row(name, 1, Sent { latencies, lasted: began.elapsed() }).await?;
    let per_claim = as_f64(one_time) / as_f64(claimers.len());
    Ok(Row { figures: vec![("one_time_packages_per_claim", Some(per_claim))], ..row })
}
