//! A database whose open connections fall silent, while new ones work: a failover.
//!
//! The bound: every statement has a deadline, after which its connection is dropped and not pinged; the server is ready again
//! within 60 s or ends with a message, and honest calls are answered by 503 meanwhile.

use std::sync::Arc;

use anyhow::bail;

use super::{Attack, Database};
use crate::target::{Road, Target};

pub const ATTACK: Attack = Attack::new("silent_postgres", |target| Box::pin(run(target))).by(Database::Silent);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let Road::Silent(proxy) = &target.road else { bail!("no proxy") };
    proxy.silence();
    // New connections work from the beginning.
    target.database_is_back().await;
    tokio::time::sleep_until(target.begins().into()).await;
    Ok("every open connection fell silent".to_owned())
}
