//! `rookery recover`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{machine_user, prepare};
use crate::api::admin::actions::{self, OperatorAction};
use crate::federation::replica;
use crate::log;
use crate::server::{Database, open_database, open_database_beside};
use crate::storage::Storage;
use crate::types::{Clock, StreamId};

/// What stands for every stream that waits.
const ALL: &str = "all";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Let this stream, or all, go on without the followers that have not answered. Nothing is said of the database.
    ///
    /// What only they hold is lost, and they follow no more. Works beside a running server.
    #[arg(long, value_name = "STREAM", num_args = 0..=1, default_missing_value = ALL)]
    go_on: Option<String>,
}

pub(super) async fn run(file: Option<&Path>, args: Args) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let database =
        if args.go_on.is_some() { open_database_beside(&config).await } else { open_database(&config).await };
    let Database { storage, cluster } = database?;
    let outcome = match args.go_on {
        Some(stream) => {
            let done = go_on(&storage, Some(stream.as_str()).filter(|stream| *stream != ALL)).await;
            and_record(&storage, done, "goOn", &[("stream", &stream)]).await
        }
        None => {
            let raised = log::recover(&storage, &Clock::System, config.log.rollback_guard.as_deref()).await;
            let raised = raised.map(|raised| say(&restored(raised))).map_err(Into::into);
            and_record(&storage, raised, "recover", &[]).await
        }
    };
    storage.close();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Records the action afterwards, because it takes several transactions.
async fn and_record(
    storage: &Storage,
    done: anyhow::Result<()>,
    name: &'static str,
    detail: &[(&'static str, &str)],
) -> anyhow::Result<()> {
    done?;
    let mut tx = storage.begin().await?;
    let action = OperatorAction { by: &machine_user(), name, account: None, detail };
    actions::record(tx.conn(), &action, Clock::System.now()).await?;
    Ok(tx.commit().await?)
}

async fn go_on(storage: &Storage, stream: Option<&str>) -> anyhow::Result<()> {
    let stream = stream.map(StreamId::parse).transpose().context("that is not the name of a stream")?;
    let streams = replica::go_on(storage, stream.as_ref(), Clock::System.now()).await?;
    match (streams.as_slice(), &stream) {
        ([], Some(stream)) => bail!("{stream} waits for nobody"),
        ([], None) => say("No stream waits for a follower."),
        (streams, _) => {
            for stream in streams {
                say(stream);
            }
            say("They go on within seconds, once their followers were asked a last time.");
        }
    }
    Ok(())
}

fn restored(raised: log::Raised) -> String {
    let log::Raised { incarnation, restored_pos } = raised;
    format!(
        "The database counts as restored: incarnation {incarnation}, from position {restored_pos}.\n\
         Every stream opens a new term with its next entry. One-time key packages of before are offered no more; the \
         next start removes them, and tells the devices to publish new ones.\n\
         Servers that ran on this database end by themselves with their next write: start them again."
    )
}

#[expect(clippy::print_stdout, reason = "the command line's own voice")]
fn say(line: &str) {
    println!("{line}");
}
