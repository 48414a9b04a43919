//! All the reads of a minute at one moment.
//!
//! One account calls `listEvents` with a limit of 100 from 300 connections at once, wave after wave. The bound: an account
//! and a device have few calls in flight, and the connections to the database are divided by class.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;

use super::Attack;
use super::filling::conversation;
use crate::target::Target;
use crate::wire::{self, Tally};

pub const ATTACK: Attack = Attack::new("many_reads", |target| Box::pin(run(target)));

const CALLS: u16 = 300;
const MESSAGES: [usize; 2] = [400, 100];
const NSID: &str = "blue.catbird.event.listEvents";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let (_, [mallory, _]) = conversation(&target, messages, 2000).await?;
    let (until, mut all) = (target.begins(), Tally::default());
    while Instant::now() < until || all.calls() == 0 {
        let (attackers, mallory) = (Arc::clone(&target), Arc::clone(&mallory));
        let tally = wire::burst(CALLS, move |number| {
            let (target, token) = (Arc::clone(&attackers), mallory.token(NSID));
            async move { Some(target.call(number % 8, NSID, "?limit=100", Some(token), None).await?.status) }
        })
        .await;
        all.merge(&tally);
    }
    ensure!(all.of(200) > 0, "no read was answered: {all}");
    Ok(all.to_string())
}
