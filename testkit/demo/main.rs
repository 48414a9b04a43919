//! `rookery-demo`: real servers, real MLS clients, a crash in the middle, and a verdict.
//!
//! Invariant: it says ok only if everything held, and leaves nothing behind: no process, no folder. The last line on
//! standard output is one JSON object.

mod process;
mod story;
mod transcript;
mod way;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser as _;
use rookery_testkit::{Directory, server_program};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use process::Process;
use story::Outcome;
use transcript::Transcript;

/// The whole story, start and crash included.
const LIMIT: Duration = Duration::from_mins(2);
/// What the story calls them.
const SERVERS: [&str; 3] = ["a", "b", "c"];
/// Others pass through: as root, the servers' Postgres runs as somebody else.
const FOLDER_MODE: u32 = 0o711;

/// Starts three servers on free ports and in a temporary folder, lets real MLS clients talk through them with a crash in
/// the middle, and prints one JSON object at the end.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Arguments {
    /// The server's program [default: ROOKERY_BIN, or `rookery` beside this program].
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Leave the folder with the server's data and log where it is.
    #[arg(long)]
    keep: bool,
    /// Messages that are sent while the server is killed and started again.
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(40..=10_000))]
    messages: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Arguments::parse();
    let program = args.server.unwrap_or_else(server_program);
    let transcript = Transcript::begin();
    // Before there is anything that somebody would have to clear away.
    let mut interrupts = Interrupts::listen()?;
    let directory = Directory::start().await.context("starting the directory")?;
    let folder = std::env::temp_dir().join(format!("rookery-demo-{}", hex::encode(rand::random::<[u8; 6]>())));
    make_folder(&folder)?;
    let mut servers = SERVERS
        .into_iter()
        .map(|name| Process::new(name, &program, &folder, directory.url()))
        .collect::<Result<Vec<_>, _>>()?;

    let names: Vec<String> = servers.iter().map(|server| server.way.did()).collect();
    for server in &mut servers {
        server.allow(&names);
    }

    let told = tokio::select! {
        told = tokio::time::timeout(LIMIT, story::tell(&transcript, &directory, &mut servers, args.messages)) => {
            told.unwrap_or_else(|_| Err(anyhow::anyhow!("{} s were not enough", LIMIT.as_secs())))
        }
        signal = interrupts.next() => Err(anyhow::anyhow!("interrupted by {signal}")),
    };
    // Before the servers are stopped, which take their own words along.
    let told = told.with_context(|| format!("while {}", transcript.where_it_is()));
    if let Err(error) = &told {
        transcript.say(format_args!("FAILED: {error:#}"));
        for server in &servers {
            transcript.say(format_args!("the last words of server {}:\n{}", server.name, server.tail()));
        }
    }

    transcript.act("Stopping");
    let mut ended = Ok(());
    for server in &mut servers {
        let this = server.end().await.with_context(|| format!("stopping server {}", server.name));
        ended = ended.and(this);
    }
    if ended.is_ok() {
        transcript.say("the servers and their Postgres have ended");
    }
    let quiet = servers.iter().try_for_each(no_errors);
    let cleared = if args.keep { Ok(()) } else { clear(&folder) };
    if args.keep {
        transcript.say(format_args!("kept: {}", folder.display()));
    }
    let outcome = told.and_then(|outcome| ended.and(quiet).and(cleared).map(|()| outcome));
    transcript::last_line(&report(&outcome, &transcript));
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(outcome: &anyhow::Result<Outcome>, transcript: &Transcript) -> serde_json::Value {
    let seconds = (transcript.elapsed().as_secs_f64() * 100.0).round() / 100.0;
    match outcome {
        Ok(outcome) => json!({
            "ok": true,
            "servers": SERVERS.len(),
            "clients": outcome.clients,
            "accounts": outcome.accounts,
            "conversations": outcome.conversations,
            "chains_equal": outcome.chains_equal,
            "messages_sent": outcome.messages_sent,
            "messages_decrypted": outcome.messages_decrypted,
            "commits": outcome.commits,
            "restarts": outcome.restarts,
            "lost": outcome.difference.missing,
            "repeated": outcome.difference.repeated,
            "refused_as_expected": outcome.refused_as_expected,
            "seconds": seconds,
        }),
        Err(error) => json!({ "ok": false, "failed": format!("{error:#}"), "seconds": seconds }),
    }
}

/// Whoever wants the demo to end before its end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// Every user must get there.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(folder).with_context(|| format!("making {}", folder.display()))
}

fn clear(folder: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))
}

/// A server that logged an error did something wrong, even if nobody noticed.
fn no_errors(process: &Process) -> anyhow::Result<()> {
    let errors = process.errors();
    match errors.first() {
        Some(first) => bail!("server {} logged {} errors, the first: {first}", process.name, errors.len()),
        None => Ok(()),
    }
}
