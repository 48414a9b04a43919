//! `rookery demo`.

pub mod directory;
pub mod person;

pub use directory::{Directory, Form, Identity};
pub use person::{Person, Service};

/// What the demo may be told.
#[derive(Debug, clap::Args)]
pub struct Args {}
pub async fn run(_: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("being written")
}
