//! An account that moves in with hundreds of homes that do not exist, where federation is off.
//!
//! Each call names 200 servers, 300 times a minute. The bound: without federation nothing is queued for other servers, an
//! account has a bounded number of deliveries that wait, and nothing is looked up after a transaction's first write.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::{Value, json};

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("imported_homes", |target| Box::pin(run(target)));

const WORKERS: u16 = 8;
const NSID: &str = "blue.catbird.account.importData";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let mallory = target.person("mallory").await?;
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, mallory) = (Arc::clone(&target), Arc::clone(&mallory));
        async move {
            let body =
                serde_json::to_vec(&homes(|number| format!("did:web:h{worker}-{call}-{number}.invalid"))).ok()?;
            Some(target.call(worker, NSID, "", Some(mallory.token(NSID)), Some(body)).await?.status)
        }
    })
    .await;
    ensure!(tally.of(403) > 0 && tally.of(200) == 0 && tally.of(500) == 0, "{tally}");
    Ok(tally.to_string())
}

/// An import of 100 seats and 100 further homes.
pub fn homes(name: impl Fn(usize) -> String) -> Value {
    let seat = |number: usize| {
        let stream = hex::encode(rand::random::<[u8; 16]>());
        json!({ "stream": stream, "home": name(number), "fromSeq": 1, "role": "member" })
    };
    let seats: Vec<Value> = (0..100).map(seat).collect();
    let homes: Vec<String> = (100..200).map(name).collect();
    json!({ "seats": seats, "homes": homes })
}
