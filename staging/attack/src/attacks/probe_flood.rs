//! More probes than anybody needs, from the address of the prober.
//!
//! Calls of `/health/live` come without a pause, each on a connection of its own, from the address of the honest prober. The
//! bound: a probe is counted and never refused, so that a client at the prober's address cannot cause a restart of the server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("probe_flood", |target| Box::pin(run(target)));

/// Probes that are under way at one time.
const AT_ONCE: u16 = 32;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let url = format!("{}/health/live", target.url());
    let until = target.begins();
    let tally = wire::swarm(AT_ONCE, until, move |_, _| {
        let url = url.clone();
        async move { wire::get(&url, Duration::from_secs(5)).await }
    })
    .await;
    ensure!(tally.of(200) > 0, "no probe was answered: {tally}");
    ensure!(tally.of(429) == 0, "probes were refused: {tally}");
    Ok(tally.to_string())
}
