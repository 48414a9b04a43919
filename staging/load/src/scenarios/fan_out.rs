//! One sender at a steady pace; 300 sockets of 60 members listen. A unit is a delivery.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use rookery_testkit::Person;

use super::groups::crowd;
use super::{Bench, Scenario};
use crate::bare_fan_out;
use crate::listeners::Listening;
use crate::meter::Meter;
use crate::report::Row;
use crate::senders::Sent;
use crate::sockets::{self, SOCKETS_PER_DEVICE};

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "fan-out";
/// Sockets that listen to one conversation, and the pause between its messages.
const LISTENERS: usize = 300;
const PACE: Duration = Duration::from_millis(50);

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(NAME).await?;
    let members = crowd(&stage, LISTENERS.div_ceil(SOCKETS_PER_DEVICE)).await?;
    let people: Vec<Arc<Person>> = members.iter().map(|member| Arc::clone(member.person())).collect();
    let mut listening = Listening::begin(sockets::open(&people, LISTENERS, 0, None).await?);
    let sender = members.first().context("a conversation without a member")?;
    let (meter, began) = (Meter::begin(&stage, &bench.postgres).await?, Instant::now());
    let latencies = listening.deliver(sender, PACE, bench.run.duration()).await?;
    let row = meter.row(NAME, LISTENERS, Sent { latencies, lasted: began.elapsed() }).await?;
    listening.stop().await;
    stage.stop().await?;
    let bare = bare_fan_out::measure(LISTENERS, PACE, bench.run.duration()).await.context("the ceiling")?;
    Ok(vec![row.beside_cpu_time(bare)])
}
