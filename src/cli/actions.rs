//! `rookery actions`: shows and verifies the log of operators' actions.

use std::path::Path;
use std::process::ExitCode;

use super::prepare;
use crate::api::admin::actions::{self, ActionStatement};
use crate::server::{Database, open_database_beside};

pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let Database { storage, cluster } = open_database_beside(&config).await?;
    let verified = actions::verify(storage.pool(), |statement| say(&line(statement))).await;
    storage.close();
    if let Some(cluster) = cluster {
        cluster.stop().await?;
    }
    say(&format!("nothing was changed or left out; the last hash is {}", verified?));
    Ok(ExitCode::SUCCESS)
}

fn line(statement: &ActionStatement) -> String {
    let ActionStatement { seq, at, by, action, account, detail, .. } = statement;
    let mut parts = vec![format!("{seq}  {}  {action}", at.to_rfc3339()), format!("by {by}")];
    parts.extend(account.as_ref().map(ToString::to_string));
    parts.extend(detail.iter().map(|(name, value)| format!("{name}: {value}")));
    parts.join(", ")
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
fn say(line: &str) {
    println!("{line}");
}
