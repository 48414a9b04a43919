//! Connections by the hundred, opened at one moment and again until the attack ends, each of which the server must end.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;

use crate::target::Target;
use crate::wire::{self, Tally};

const ENDED: u16 = 1;
const HELD: u16 = 2;

/// The number of connections that the server ended; an error if a connection outlived the attacker's patience, or if the
/// attacker got no connection. `is_ended` uses one connection, and answers None without a connection.
pub async fn all_end<F, A>(target: &Arc<Target>, connections: u16, is_ended: F) -> anyhow::Result<usize>
where
    F: Fn(Arc<Target>, u16) -> A,
    A: Future<Output = Option<bool>> + Send + 'static,
{
    let (until, mut all) = (target.begins(), Tally::default());
    while Instant::now() < until || all.calls() == 0 {
        let wave = wire::burst(connections, |number| {
            let ended = is_ended(Arc::clone(target), number);
            async move { Some(if ended.await? { ENDED } else { HELD }) }
        });
        all.merge(&wave.await);
    }
    let (ended, held) = (all.of(ENDED), all.of(HELD));
    ensure!(ended + held > 0, "the attackers got no connection");
    ensure!(held == 0, "{held} of {} connections were still open", ended + held);
    Ok(ended)
}
