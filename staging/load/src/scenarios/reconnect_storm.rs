//! All sockets break at once, and their clients open them again with cursors, as fast as they can. A unit is a socket; its
//! latency is the time from the break to the message that was sent while the socket was away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::stream::{StreamExt, TryStreamExt, iter};
use rookery_client::EventCursor;
use rookery_testkit::Person;
use tokio::task::JoinSet;

use super::groups::Hall;
use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::progress::note;
use crate::report::{Row, as_f64};
use crate::senders::Sent;
use crate::sockets::{self, Opening, SETTLES, SOCKETS_PER_DEVICE, Socket};

pub const SCENARIO: Scenario = Scenario::new(NAME, &[NAME], |bench| Box::pin(run(bench)));

const NAME: &str = "reconnect-storm";
/// The pause of a client after a refusal or a broken connection.
const PAUSE: Duration = Duration::from_millis(100);
/// A client that is not live by then gives up, and the run fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// Sockets that are read at one time before the break.
const READING: usize = 64;

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let stage = bench.stage(NAME).await?;
    let count = bench.run.storm;
    let hall = Arc::new(Hall::open(&stage, count.div_ceil(SOCKETS_PER_DEVICE)).await?);
    let mut opened = sockets::open(&hall.listeners, count, 0, None).await?;
    tokio::time::sleep(SETTLES).await;
    note(&format!("{NAME}: {count} sockets are open"));
    let first = hall.sender.send(0).await?.seq;
    let reading = opened.iter_mut().map(|socket| socket.until(&hall.stream, first));
    iter(reading).buffer_unordered(READING).try_collect::<()>().await?;
    let cursor = opened.first().and_then(Socket::cursor).cloned().context("a socket without a cursor")?;
    let meter = Meter::begin(&stage, &bench.postgres).await?;
    let began = Instant::now();
    drop(opened);
    let missed = hall.sender.send(0).await?.seq;
    let (errors, mut clients) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for (number, person) in sockets::devices(&hall.listeners, count).enumerate() {
        let (person, hall, cursor) = (Arc::clone(person), Arc::clone(&hall), cursor.clone());
        let errors = Arc::clone(&errors);
        clients.spawn(async move {
            let returning = come_back(&person, number, cursor, (&hall.stream, missed), &errors);
            let socket = tokio::time::timeout(PATIENCE, returning).await.context("a socket did not come back")??;
            Ok::<_, anyhow::Error>((socket, began.elapsed()))
        });
    }
    let (mut back, mut latencies) = (Vec::new(), Vec::new());
    while let Some(client) = clients.join_next().await {
        let (socket, latency) = client.context("a client panicked")??;
        back.push(socket);
        latencies.push(latency);
    }
    latencies.sort_unstable();
    let live_again = latencies.last().context("no socket")?.as_secs_f64();
    let row = meter.row(NAME, count, Sent { latencies, lasted: began.elapsed() }).await?;
    // Each socket that came back is live: the next message reaches all of them.
    let last = hall.sender.send(0).await?.seq;
    let reading = back.iter_mut().map(|socket| socket.until(&hall.stream, last));
    tokio::time::timeout(PATIENCE, iter(reading).buffer_unordered(READING).try_collect::<()>())
        .await
        .context("a socket that came back is not live")??;
    ensure!(back.len() == count, "{} of {count} sockets came back", back.len());
    drop(back);
    stage.stop().await?;
    let errors = as_f64(errors.load(Ordering::Relaxed));
    Ok(vec![Row { figures: vec![("errors", Some(errors)), ("live_again_seconds", Some(live_again))], ..row }])
}

/// Opens the socket after the cursor until it gives the missed message. Each failure of an attempt counts.
async fn come_back(
    person: &Person,
    number: usize,
    cursor: EventCursor,
    (stream, missed): (&str, u64),
    errors: &AtomicUsize,
) -> anyhow::Result<Socket> {
    loop {
        let attempt = async {
            let opening = Opening { number, cursor: Some(cursor.clone()), window: None };
            let mut socket = Socket::open(person, opening).await?;
            socket.until(stream, missed).await?;
            Ok::<_, anyhow::Error>(socket)
        };
        match attempt.await {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                if errors.fetch_add(1, Ordering::Relaxed) == 0 {
                    note(&format!("{NAME}: the first error: {error:#}"));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
