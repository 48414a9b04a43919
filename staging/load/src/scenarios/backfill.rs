//! A device reads the past of 500 conversations from cursor 0, by a subscription and in pages of `listEvents`. A unit is an
//! entry. Each way reads from a server that has just started.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rookery::lexicon::event::list_events::{self, ListEvents};
use rookery_client::{Chains, EventCursor};
use rookery_testkit::Person;

use super::{Bench, Scenario};
use crate::meter::Meter;
use crate::progress::note;
use crate::report::{Row, as_f64};
use crate::seed::Seed;
use crate::senders::Sent;
use crate::sockets::{Opening, Socket};
use crate::stage::Stage;
use crate::statements;

pub const SCENARIO: Scenario = Scenario::new("backfill", &[BY_SOCKET, BY_PAGES], |bench| Box::pin(run(bench)));

const BY_SOCKET: &str = "backfill";
const BY_PAGES: &str = "backfill-pages";
const STREAMS: usize = 500;
/// Events of one page: the most that `listEvents` gives.
const PAGE: u64 = 100;
/// Reading that is not done by then fails the run.
const READS_WITHIN: Duration = Duration::from_mins(30);

async fn run(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let mut stage = bench.stage(BY_SOCKET).await?;
    let reader = stage.people(1).await?.pop().context("no reader")?;
    let streams = stage.conversations(std::slice::from_ref(&reader), STREAMS).await?;
    let messages = bench.run.entries.div_ceil(STREAMS);
    let author = (reader.did(), reader.device());
    Seed::at(&stage.database).await?.messages(&streams, author, messages).await?;
    note(&format!("{BY_SOCKET}: {} messages are stored", messages * STREAMS));
    let expected = messages * STREAMS;
    let by_socket = measured(bench, &mut stage, BY_SOCKET, by_socket(&reader, expected)).await?;
    let by_pages = measured(bench, &mut stage, BY_PAGES, by_pages(&reader, expected)).await?;
    stage.stop().await?;
    Ok(vec![by_socket, by_pages])
}

/// Measures a way of reading, which answers how many events it read.
async fn measured(
    bench: &Bench,
    stage: &mut Stage,
    name: &'static str,
    reading: impl Future<Output = anyhow::Result<usize>>,
) -> anyhow::Result<Row> {
    stage.restart().await?;
    statements::forget_rows_read(&stage.database).await?;
    let (meter, began) = (Meter::begin(stage, &bench.postgres).await?, Instant::now());
    let read = tokio::time::timeout(READS_WITHIN, reading).await.context("reading took too long")??;
    let sent = Sent { latencies: vec![Duration::ZERO; read], lasted: began.elapsed() };
    let row = meter.row(name, 1, sent).await?;
    // Postgres counts the rows of the server's connections when they end.
    stage.restart().await?;
    let rows_read = statements::entry_rows_read(&stage.database).await?;
    #[expect(clippy::cast_precision_loss, reason = "rows of one run are far below 2^52")]
    let per_row_sent = rows_read as f64 / as_f64(read);
    Ok(Row { latencies: Vec::new(), figures: vec![("rows_read_per_row_sent", Some(per_row_sent))], ..row })
}

/// Reads by a subscription until so many messages came; the events read.
async fn by_socket(reader: &Arc<Person>, messages: usize) -> anyhow::Result<usize> {
    let opening = Opening { cursor: Some(EventCursor::oldest()), ..Opening::default() };
    let mut socket = Socket::open(reader, opening).await?;
    let (mut read, mut found) = (0, 0);
    while found < messages {
        read += 1;
        found += usize::from(socket.event().await?.kind == "#message");
    }
    Ok(read)
}

/// Reads page by page up to the end; the events read.
async fn by_pages(reader: &Arc<Person>, messages: usize) -> anyhow::Result<usize> {
    let mut chains = Chains::new(reader.did().clone(), Some(EventCursor::oldest()));
    let (mut cursor, mut read, mut found) = ("0".to_owned(), 0, 0);
    loop {
        let params = list_events::Params { cursor: Some(cursor), limit: PAGE };
        let page = reader.query::<ListEvents>(&params).await?;
        for event in &page.events {
            chains.extend(event)?;
            read += 1;
            found += usize::from(event.kind == "#message");
        }
        if !page.more {
            break;
        }
        cursor = page.cursor;
    }
    ensure!(found == messages, "{found} of {messages} messages were read");
    Ok(read)
}
