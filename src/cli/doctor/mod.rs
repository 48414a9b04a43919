//! `rookery doctor`: what is wrong, and how it is mended.
//!
//! Invariant: each step says one thing that was seen, and whatever is wrong comes with what to do about it. It changes
//! nothing but that a server it speaks to is known from then on, as after any call.

mod federation;

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Whether this server and another one can speak to each other: names, documents, keys, policy, clocks, a signed call.
    Federation {
        /// The other server's host, such as chat.example.com, or its did:web.
        host: String,
    },
}

pub(super) async fn run(file: Option<&Path>, command: Command) -> anyhow::Result<ExitCode> {
    let Command::Federation { host } = command;
    let config = super::prepare(file)?;
    let report = Box::pin(federation::examine(&config, &super::peer::name(&host)?)).await?;
    report.print();
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What was seen, step by step.
#[derive(Default)]
struct Report(Vec<(&'static str, Finding)>);

enum Finding {
    Well(String),
    Wrong {
        why: String,
        fix: String,
    },
    /// It cannot be seen before what is wrong above is mended.
    Unseen,
}

impl Report {
    fn well(&mut self, step: &'static str, what: impl Into<String>) {
        self.0.push((step, Finding::Well(what.into())));
    }

    fn wrong(&mut self, step: &'static str, why: impl Into<String>, fix: impl Into<String>) {
        self.0.push((step, Finding::Wrong { why: why.into(), fix: fix.into() }));
    }

    fn unseen(&mut self, step: &'static str) {
        self.0.push((step, Finding::Unseen));
    }

    fn is_well(&self) -> bool {
        self.0.iter().all(|(_, finding)| matches!(finding, Finding::Well(_)))
    }

    #[expect(clippy::print_stdout, reason = "the command's answer")]
    fn print(&self) {
        for (step, finding) in &self.0 {
            match finding {
                Finding::Well(what) => println!("ok     {step:<13} {what}"),
                Finding::Wrong { why, fix } => println!("WRONG  {step:<13} {why}\n       {:<13} Fix: {fix}", ""),
                Finding::Unseen => println!("-      {step:<13} not tried: something above is wrong"),
            }
        }
    }
}
