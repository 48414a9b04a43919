//! `rookery`: parses the command line and runs one command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    rookery::cli::run(rookery::cli::Arguments::parse())
}
