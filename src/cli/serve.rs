//! `rookery serve`.

use std::path::Path;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::prepare;
use crate::server::Server;
use crate::types::Clock;

pub(super) async fn run(file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let config = prepare(file)?;
    let is_production = config.is_production();
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;

    let server = tokio::select! {
        server = Server::start(config, Clock::System) => server?,
        _ = terminated.recv() => return Ok(ExitCode::SUCCESS),
        _ = interrupted.recv() => return Ok(ExitCode::SUCCESS),
    };
    if !is_production {
        greet(&server);
    }
    let failure = tokio::select! {
        _ = terminated.recv() => None,
        _ = interrupted.recv() => None,
        failure = server.failed() => Some(failure),
    };
    tracing::info!("stopping");
    if failure.is_none() {
        // A second signal ends the wait.
        tokio::select! {
            () = server.drain() => {}
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    }
    let stopped = server.stop().await;
    match failure {
        Some(failure) => Err(failure),
        None => stopped.map(|()| ExitCode::SUCCESS),
    }
}

/// Where it listens and what to try.
#[expect(clippy::print_stderr, reason = "the command line's own voice")]
fn greet(server: &Server) {
    let origin = server.services().config.identity.public_url.origin().ascii_serialization();
    eprintln!(
        "\nRookery listens on {} as {}. Try:\n  curl {origin}/health\n  curl {origin}/.well-known/did.json\n  \
         curl -i {origin}/xrpc/blue.catbird.mls.getConvos\n  make demo   (real MLS clients, on a server of their own)\n\
         Ctrl-C stops it.\n",
        server.address(),
        server.services().log.home(),
    );
}
