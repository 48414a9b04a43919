//! `rookery recover`.

use std::path::Path;
use std::process::ExitCode;

use super::prepare;
use crate::log;
use crate::server::open_database;
use crate::types::Clock;

pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let database = open_database(&config).await?;
    let raised = log::recover(&database.storage, &Clock::System, config.log.rollback_guard.as_deref()).await;
    database.storage.close().await;
    if let Some(cluster) = database.cluster {
        cluster.stop().await?;
    }
    say(raised?);
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "the command line's own voice")]
fn say(raised: log::Raised) {
    let log::Raised { incarnation, restored_pos, key_packages, accounts } = raised;
    println!(
        "The database counts as restored: incarnation {incarnation}, from position {restored_pos}.\n\
         Every stream opens a new term with its next entry. {key_packages} one-time key packages of {accounts} accounts \
         were retired; their devices are told to publish new ones.\n\
         Servers that ran on this database end by themselves with their next write: start them again."
    );
}
