//! `rookery keygen`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use crate::config::Config;
use crate::identity::ServerKeys;

/// A new key is published for so long before it signs.
const PUBLISHED_BEFORE: Duration = Duration::from_hours(2);

#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub struct Args {
    /// Make the keys that will sign next. Start the servers again: they publish them, endorsed by those that sign now.
    #[arg(long)]
    next: bool,
    /// Let the next keys sign from the next start on, once they were published for two hours.
    #[arg(long)]
    rotate: bool,
    /// Publish the old keys no more: 26 hours after they signed last at the earliest.
    #[arg(long)]
    forget_old: bool,
}

#[expect(clippy::print_stdout, reason = "the command's answer")]
pub(super) fn run(file: Option<&Path>, args: &Args) -> anyhow::Result<ExitCode> {
    let config = Config::from_process(file)?;
    let dir = &config.identity.keys_dir;
    if args.next {
        ServerKeys::generate_next(dir)?;
        println!("{}: the next keys are made. Start the servers again, and in two hours run --rotate", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    if args.rotate {
        let Some(age) = ServerKeys::age_of_next(dir) else { bail!("there are no next keys. Fix: run --next first") };
        ensure!(
            age >= PUBLISHED_BEFORE,
            "the next keys were made {} minutes ago; two hours are due",
            age.as_secs() / 60
        );
        ServerKeys::rotate(dir)?;
        println!("{}: the next keys sign from the next start on. In 26 hours run --forget-old", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    if args.forget_old {
        ServerKeys::forget_old(dir)?;
        println!("{}: the old keys are published no more from the next start on", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    let keys = ServerKeys::generate(dir)?;
    println!("{}: {} signs requests, {} signs checkpoints", dir.display(), keys.peer_id(), keys.checkpoint_id());
    Ok(ExitCode::SUCCESS)
}
