//! `rookery migrate`.

use std::path::Path;
use std::process::ExitCode;

use super::prepare;
use crate::server::open_database;

pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let database = open_database(&config).await?;
    database.storage.close();
    if let Some(cluster) = database.cluster {
        cluster.stop().await?;
    }
    tracing::info!("the schema is up to date");
    Ok(ExitCode::SUCCESS)
}
