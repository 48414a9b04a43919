//! The commands.

mod account;
mod actions;
mod doctor;
mod keygen;
mod lexicons;
mod migrate;
mod peer;
mod recover;
mod resolve;
mod serve;
mod settings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Federated, AT-Protocol-native, end-to-end encrypted delivery and sync server.
///
/// Every setting is an environment variable or a key of a TOML file; `rookery config` lists them with their values.
#[derive(Debug, Parser)]
#[command(version, about, long_about)]
pub struct Arguments {
    /// Settings file (TOML; keys are the names of the variables in lower case). The environment wins over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until SIGTERM or Ctrl-C.
    ///
    /// Without DATABASE_URL it runs a private Postgres in DATA_DIR, from the programs it finds.
    Serve,
    /// Bring the database's schema up to date, and end.
    Migrate,
    /// Say that the database was restored from older files. Start the servers again afterwards.
    ///
    /// A restore on another cluster, a failover, and whatever ROLLBACK_GUARD shows are noticed without it.
    Recover(recover::Args),
    /// Show the settings in force, with their sources; secrets are hidden.
    Config,
    /// Make the service keys in KEYS_DIR, or the next ones. Never overwrites any.
    Keygen(keygen::Args),
    /// Say who may use this server: list, suspend, resume, allow, invite. Works beside a running server.
    #[command(subcommand)]
    Account(account::Command),
    /// Say which other servers this one talks to: list, show, allow, block, usual, forget, accept-key, refuse-key. Works
    /// beside a running server.
    #[command(subcommand)]
    Peer(peer::Command),
    /// Show the actions of operators, and verify that no record was changed or removed.
    Actions,
    /// Look for what is wrong between this server and the world, and say how to mend it.
    #[command(subcommand)]
    Doctor(doctor::Command),
    /// Show who stands behind a handle or a DID, as this server sees it: both ways, key and services.
    Resolve(resolve::Args),
    /// Publish the method descriptions (lexicons) in an account's repository, or see what is published.
    #[command(subcommand)]
    Lexicons(lexicons::Command),
}

/// Runs one command; what went wrong is said on standard error.
pub fn run(arguments: Arguments) -> ExitCode {
    let file = arguments.config.as_deref();
    let outcome = match arguments.command {
        Command::Config => settings::run(file),
        Command::Keygen(args) => keygen::run(file, &args),
        Command::Serve => with_runtime(serve::run(file)),
        Command::Migrate => with_runtime(migrate::run(file)),
        Command::Account(command) => with_runtime(account::run(file, command)),
        Command::Peer(command) => with_runtime(peer::run(file, command)),
        Command::Actions => with_runtime(actions::run(file)),
        Command::Doctor(command) => with_runtime(doctor::run(file, command)),
        Command::Recover(args) => with_runtime(recover::run(file, args)),
        Command::Resolve(args) => with_runtime(resolve::run(file, args)),
        Command::Lexicons(command) => with_runtime(lexicons::run(file, command)),
    };
    outcome.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn with_runtime(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

#[expect(clippy::print_stderr, reason = "the command line's own voice")]
fn complain(error: &anyhow::Error) {
    eprintln!("rookery: {}", crate::telemetry::causes(error.as_ref()));
}

/// The user who runs the command, as the log of operators' actions names it.
fn machine_user() -> String {
    format!("command line, uid {}", nix::unistd::getuid())
}

/// Reads the settings and begins to log.
fn prepare(file: Option<&Path>) -> anyhow::Result<Config> {
    let config = Config::from_process(file)?;
    crate::telemetry::install_tracing(&config.telemetry)?;
    Ok(config)
}
