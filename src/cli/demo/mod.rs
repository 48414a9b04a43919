//! `rookery demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}
pub async fn run(_: Args) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("being written")
}
