//! `rookery keygen`.

use std::path::Path;
use std::process::ExitCode;

use crate::config::Config;
use crate::identity::ServerKeys;

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = Config::from_process(file)?;
    let dir = &config.identity.keys_dir;
    let keys = ServerKeys::generate(dir)?;
    println!("{}: {} signs requests, {} signs checkpoints", dir.display(), keys.peer_id(), keys.checkpoint_id());
    Ok(ExitCode::SUCCESS)
}
