//! From the start of the process to the first answer of `/health/ready`, with a given Postgres and with a private one, both
//! with data; and the memory of the process at rest and after messages. A unit is an acknowledged message.

use super::groups::crowd;
use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::report::{Row, milliseconds, percentile};
use crate::senders::{Until, send};
use crate::sockets::SETTLES;
use crate::stage::private_restart;
use crate::usage;

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "start";
/// Starts of which the median counts.
const STARTS: usize = 5;

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut private = private_restart(&bench.run.program(), STARTS).await?;
    let mut stage = bench.stage(NAME).await?;
    let senders = crowd(&stage, bench.run.senders).await?;
    let mut given = Vec::new();
    for _ in 0..STARTS {
        given.push(stage.restart().await?);
    }
    private.sort_unstable();
    given.sort_unstable();
    tokio::time::sleep(SETTLES).await;
    let at_rest = usage::resident(stage.pid()?)?;
    let meter = Meter::begin(&stage, &bench.postgres).await?;
    let sent = send(&senders, Until::Time(bench.run.duration() * 2)).await?;
    let row = meter.row(NAME, senders.len(), sent).await?;
    let after = usage::resident(stage.pid()?)?;
    stage.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of one process are far below 2^52")]
    let mebibytes = |bytes: u64| Some(bytes as f64 / f64::from(1 << 20));
    let figures = vec![
        ("given_ready_ms", percentile(&given, 50).map(milliseconds)),
        ("private_ready_ms", percentile(&private, 50).map(milliseconds)),
        ("memory_at_rest_mib", mebibytes(at_rest)),
        ("memory_after_sends_mib", mebibytes(after)),
    ];
    Ok(vec![Row { figures, ..row }])
}
