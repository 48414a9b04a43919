//! Messages over HTTP, beside the ceiling of the same run. A unit is an acknowledged message.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rookery_testkit::open_folder;

use super::groups::{crowd, spread};
use super::{Bench, Scenario};
use crate::bare::Ceiling;
use crate::meter::Meter;
use crate::report::{Row, as_f64};
use crate::senders::{Sender, Until, send};
use crate::stage::Stage;

/// One sender, whose every message is the first of its conversation since the server started.
pub const FIRST_TOUCH: Scenario =
    Scenario::new("first-touch", &["first-touch"], |bench| Box::pin(first_touch(bench, "first-touch")));
/// One sender, one conversation.
pub const SINGLE_SENDER: Scenario =
    Scenario::new("single-sender", &["single-sender"], |bench| Box::pin(spread_out(bench, "single-sender", 1, 1)));
/// Many senders, in turns over many conversations.
pub const MANY_CONVERSATIONS: Scenario = Scenario::new("many-conversations", &["many-conversations"], |bench| {
    Box::pin(spread_out(bench, "many-conversations", bench.run.senders, bench.run.conversations))
});
/// Many senders, all in one conversation.
pub const HOT_CONVERSATION: Scenario =
    Scenario::new("hot-conversation", &["hot-conversation"], |bench| Box::pin(crowded(bench, "hot-conversation")));

/// Time for which the senders send before the measurement begins, so that pools, caches and plans are filled.
const WARM_UP: Duration = Duration::from_secs(2);

async fn first_touch(bench: &Bench, name: &'static str) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(name).await?;
    let senders = spread(&stage, 1, bench.run.conversations).await?;
    Ok(vec![measured(bench, stage, name, &senders, Until::OneEach).await?])
}

async fn spread_out(
    bench: &Bench,
    name: &'static str,
    senders: usize,
    conversations: usize,
) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(name).await?;
    let senders = spread(&stage, senders, conversations).await?;
    beside_ceiling(bench, stage, name, &senders).await
}

async fn crowded(bench: &Bench, name: &'static str) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(name).await?;
    let senders = crowd(&stage, bench.run.senders).await?;
    beside_ceiling(bench, stage, name, &senders).await
}

async fn beside_ceiling(
    bench: &Bench,
    stage: Stage,
    name: &'static str,
    senders: &[Arc<Sender>],
) -> anyhow::Result<Vec<Row>> {
    let ceiling = Some(ceiling(bench, &stage, senders).await?);
    send(senders, Until::Time(WARM_UP)).await?;
    let row = measured(bench, stage, name, senders, Until::Time(bench.run.duration())).await?;
    Ok(vec![Row { ceiling, ..row }])
}

async fn measured(
    bench: &Bench,
    stage: Stage,
    name: &'static str,
    senders: &[Arc<Sender>],
    until: Until,
) -> anyhow::Result<Row> {
    let meter = Meter::begin(&stage, &bench.postgres).await?;
    let sent = send(senders, until).await?;
    let row = meter.row(name, senders.len(), sent).await?;
    stage.stop().await?;
    Ok(row)
}

/// The rate of the ceiling with these senders, in messages a second.
async fn ceiling(bench: &Bench, stage: &Stage, senders: &[Arc<Sender>]) -> anyhow::Result<f64> {
    let (database, folder) = (bench.postgres.database("bare").await?, open_folder());
    let key = |sender: &Arc<Sender>| {
        let person = sender.person();
        (person.device().to_string(), hex::encode(person.keys().key().raw()))
    };
    let keys: HashMap<String, String> = senders.iter().map(key).collect();
    let ceiling = Ceiling::start(&database, folder.path(), &stage.service, &keys).await?;
    let theirs: Vec<Arc<Sender>> =
        senders.iter().map(|sender| Arc::new(sender.at(Arc::clone(&ceiling.service)))).collect();
    send(&theirs, Until::Time(WARM_UP)).await.context("the ceiling")?;
    let sent = send(&theirs, Until::Time(bench.run.duration())).await.context("the ceiling")?;
    ceiling.stop().await?;
    Ok(as_f64(sent.latencies.len()) / sent.lasted.as_secs_f64())
}
