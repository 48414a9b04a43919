//! A database whose every answer is late.
//!
//! Each piece of each connection passes 100 ms late in both directions. The bound: the server stays up and answers each call
//! in time, if only by 503; it is ready again once the database is quick.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;

use super::{Attack, Database};
use crate::target::{Road, Target};

pub const ATTACK: Attack = Attack::new("slow_postgres", |target| Box::pin(run(target))).by(Database::Stalling);

const LATE: Duration = Duration::from_millis(100);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let Road::Stalling(proxy) = &target.road else { bail!("no proxy") };
    proxy.slow(LATE);
    tokio::time::sleep_until(target.begins().into()).await;
    proxy.flow();
    target.database_is_back().await;
    Ok(format!("every answer {LATE:?} late"))
}
