//! A database that stands still: connections open, and nothing passes.
//!
//! The bound: honest calls are answered by 503 within the deadline, the server does not end for it, and it is ready within
//! 60 s of the database's return.

use std::sync::Arc;

use anyhow::bail;

use super::{Attack, Database};
use crate::target::{Road, Target};

pub const ATTACK: Attack = Attack::new("halted_postgres", |target| Box::pin(run(target))).by(Database::Stalling);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let Road::Stalling(proxy) = &target.road else { bail!("no proxy") };
    proxy.stand_still();
    tokio::time::sleep_until(target.begins().into()).await;
    proxy.flow();
    target.database_is_back().await;
    Ok(format!("nothing passed for {} s", target.lasts.as_secs()))
}
