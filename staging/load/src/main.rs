//! `rookery-load`: drives the server's program with real clients, and measures what one unit of work costs.
//!
//! Every scenario has a server and a database of its own, on one private Postgres with `fsync` on. The clients are devices
//! with keys of their own that sign a fresh token for each call. The program prints a table, and one JSON object.
//!
//! Invariants: a failed call ends the program with an error; CPU times are those that the operating system counted for the
//! server and for Postgres, without the clients'; statements are those that Postgres counted; the program ends with 0 only
//! if every row reached its floor.

mod bare;
mod bare_fan_out;
mod floors;
mod listeners;
mod meter;
mod progress;
mod report;
mod scenarios;
mod seed;
mod senders;
mod sockets;
mod stage;
mod statements;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Parser, Subcommand};
use rookery_testkit::server_program;
use tokio::signal::unix::{SignalKind, signal};

use crate::floors::Floors;
use crate::progress::note;
use crate::report::Report;
use crate::scenarios::{Bench, SCENARIOS};
use crate::stage::Postgres;
use crate::usage::raise_open_files;

#[derive(Debug, Parser)]
#[command(version, about = "Measures what messages cost a server and its Postgres.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the ceiling that `sendMessage` is compared with; the scenarios start this process themselves.
    #[command(hide = true)]
    Bare(bare::Arguments),
    /// Serves the ceiling that deliveries are compared with.
    #[command(hide = true)]
    BareFanOut(bare_fan_out::Arguments),
}

#[derive(Clone, Debug, Args)]
struct Run {
    /// Only these scenarios.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How long each scenario is measured.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    seconds: u64,
    /// Devices that send at one time, in the scenarios with many.
    #[arg(long, value_name = "NUMBER", default_value_t = 64)]
    senders: usize,
    /// Sockets of the scenario with idle sockets.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    sockets: usize,
    /// Sockets that read, and sockets that read nothing, in the scenario with stalled readers.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    readers: usize,
    /// Sockets that break and come back in the scenario of that name.
    #[arg(long, value_name = "NUMBER", default_value_t = 5000)]
    storm: usize,
    /// Messages that the scenarios of the past read.
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    entries: usize,
    /// Conversations of the scenarios with many.
    #[arg(long, value_name = "NUMBER", default_value_t = 1000)]
    conversations: usize,
    /// The server's program [default: ROOKERY_BIN, or `rookery` beside this program].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Print the statements that took Postgres longest in each scenario.
    #[arg(long)]
    statements: bool,
    /// Print the names of the scenarios.
    #[arg(long)]
    list: bool,
}

impl Run {
    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    fn program(&self) -> PathBuf {
        self.server.clone().unwrap_or_else(server_program)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Bare(arguments)) => return bare::serve(arguments).await.map(|()| ExitCode::SUCCESS),
        Some(Command::BareFanOut(arguments)) => {
            return bare_fan_out::serve(arguments).await.map(|()| ExitCode::SUCCESS);
        }
        None => {}
    }
    let run = arguments.run;
    if run.list {
        for scenario in SCENARIOS {
            say(scenario.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = run.only.iter().find(|name| !SCENARIOS.iter().any(|scenario| scenario.name == **name)) {
        bail!("unknown scenario {unknown}: --list prints the names");
    }
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    tokio::select! {
        held = measure(&run) => Ok(if held? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

/// Whether every row reached its floor.
async fn measure(run: &Run) -> anyhow::Result<bool> {
    let floors = Floors::committed()?;
    let files = raise_open_files()?;
    note(&format!("this process and the server may open {files} files each"));
    let bench = Bench { run: run.clone(), postgres: Postgres::start().await? };
    let (mut report, mut missed) = (Report::default(), Vec::new());
    say(Report::head());
    for scenario in SCENARIOS {
        if !run.only.is_empty() && !run.only.iter().any(|name| name == scenario.name) {
            continue;
        }
        let rows = scenario.measure(&bench).await.with_context(|| format!("scenario {}", scenario.name))?;
        ensure!(rows.iter().map(|row| &row.name).eq(scenario.rows), "scenario {} has other rows", scenario.name);
        for row in rows {
            say(&row.lines());
            if run.statements {
                for line in row.slowest_statements() {
                    say(&line);
                }
            }
            missed.extend(floors.missed(&row)?);
            report.rows.push(row);
        }
    }
    bench.postgres.stop().await?;
    say(&report.json()?);
    for what in &missed {
        say(&format!("MISSED {what}"));
    }
    Ok(missed.is_empty())
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn say(line: &str) {
    println!("{line}");
}
