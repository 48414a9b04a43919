//! `rookery-attack`: runs attacks against the server's program, one after the other, each beside an honest client, and
//! compares what the server used and what the honest client met with the limits of `limits.toml`.
//!
//! Invariants: each attack has a server, a database and an honest client of its own; the program ends every process, removes
//! every folder and every control group that the program made; the program ends with 0 only if every attack that was asked
//! for ran and every limit held.

mod attacks;
mod enclosure;
mod honest;
mod limits;
mod low_priority;
mod outcome;
mod target;
mod trial;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use rookery_testkit::{TestDatabase, server_program};
use tokio::signal::unix::{SignalKind, signal};

use crate::attacks::ATTACKS;
use crate::limits::Table;
use crate::trial::Trial;

/// Attacks a server of its own, and prints a table: attack, duration, peak memory, honest latency, limits.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The short form: fewer attacks, and each for a few seconds.
    #[arg(long)]
    short: bool,
    /// Only these attacks.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The server's program [default: ROOKERY_BIN, or `rookery` beside this program].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Print the names of the attacks.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let table = Table::committed()?;
    if arguments.list {
        for attack in ATTACKS {
            say(attack.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = arguments.only.iter().find(|name| !ATTACKS.iter().any(|attack| attack.name == **name)) {
        bail!("unknown attack {unknown}: --list prints the names");
    }
    low_priority::raise_open_files()?;
    let program = arguments.server.clone().unwrap_or_else(server_program);
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    tokio::select! {
        held = run(&arguments, &table, &program) => Ok(if held? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// Whether every limit held.
async fn run(arguments: &Arguments, table: &Table, program: &std::path::Path) -> anyhow::Result<bool> {
    // Holds the Postgres of this process for as long as attacks follow each other.
    let _postgres = TestDatabase::own().await;
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    let began = std::time::Instant::now();
    for attack in ATTACKS {
        let limits = table.of(attack.name, arguments.short)?;
        let is_asked_for = arguments.only.is_empty() || arguments.only.iter().any(|name| name == attack.name);
        if !is_asked_for || (arguments.short && !limits.short && arguments.only.is_empty()) {
            continue;
        }
        let seconds = if arguments.short { limits.short_seconds } else { limits.seconds };
        let trial = Trial { attack, limits: limits.clone(), seconds, program: program.to_owned() };
        let outcome = trial.run().await;
        say(&outcome.row(&limits));
        let broken = outcome.broken(&limits);
        if !broken.is_empty() {
            outcome.log.iter().for_each(|line| say(line));
        }
        failures.extend(broken.into_iter().map(|what| format!("{}: {what}", attack.name)));
        rows.push(outcome.row(&limits));
    }
    if rows.is_empty() {
        bail!("no attack ran");
    }
    say(&format!("\n{} attacks in {} s\n\n{}", rows.len(), began.elapsed().as_secs(), outcome::Outcome::head()));
    for row in &rows {
        say(row);
    }
    for failure in &failures {
        say(&format!("FAILED {failure}"));
    }
    Ok(failures.is_empty())
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
