//! Scrapes of `/metrics` without an end, and heads that never end beside them.
//!
//! 50 scrapers call at once, each scrape once a query of the database, and 50 connections leave their head open. The bound:
//! one measurement answers many scrapes, scrapes use no connection of people, and the page has the deadlines of the API.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::io::AsyncWriteExt;

use super::Attack;
use crate::target::{self, Target};
use crate::wire;

pub const ATTACK: Attack = Attack::new("metrics_scrapes", |target| Box::pin(run(target)));

const SCRAPERS: u16 = 50;

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let until = target.begins();
    let mut open = Vec::new();
    for number in 0..SCRAPERS {
        let mut tcp = target::connect(target.metrics, number, None).await?;
        tcp.write_all(b"GET /metrics HTTP/1.1\r\nx: ").await?;
        open.push(tcp);
    }
    let url = format!("http://{}/metrics", target.metrics);
    let tally = wire::swarm(SCRAPERS, until, move |_, _| {
        let url = url.clone();
        async move { wire::get(&url, Duration::from_secs(10)).await }
    })
    .await;
    drop(open);
    ensure!(tally.of(200) > 0, "no scrape was answered: {tally}");
    Ok(tally.to_string())
}
