//! `rookery config`.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::from_process(file)?;
    for shown in config.describe() {
        println!("{} = {}  ({})", shown.name, shown.value.as_deref().unwrap_or("unset"), shown.origin);
    }
    Ok(ExitCode::SUCCESS)
}
