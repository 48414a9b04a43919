//! U+0000 in strings of the input.
//!
//! Several methods, two of them without a token, get strings with a character that Postgres cannot store. The bound: the
//! input is refused by name (400) before anything is written, and no call ends as an internal error.

use std::sync::Arc;

use anyhow::ensure;
use serde_json::{Value, json};

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("nul_characters", |target| Box::pin(run(target)));

const NUL: &str = "a\u{0}bcdefghijklmnop";

fn bodies(stream: &str) -> Vec<(&'static str, Value)> {
    vec![
        (
            "blue.catbird.account.createPairing",
            json!({ "publicKey": { "$bytes": "A".repeat(43) }, "kind": "app", "platform": NUL }),
        ),
        ("blue.catbird.account.claimPairing", json!({ "pairing": NUL, "idem": NUL, "proof": { "$bytes": "AA" } })),
        ("blue.catbird.mls.leaveConvo", json!({ "stream": NUL, "idem": "abcdefghijklmnopq" })),
        ("blue.catbird.mls.updateCursor", json!({ "stream": NUL, "seq": 1 })),
        ("blue.catbird.mls.sendMessage", json!({ "stream": stream, "idem": NUL, "ciphertext": { "$bytes": "AA" } })),
        ("blue.catbird.account.updateDevice", json!({ "platform": NUL })),
    ]
}

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let mallory = target.person("mallory").await?;
    let stream = mallory.create_convo().await?;
    let calls = Arc::new(bodies(&stream));
    let until = target.begins();
    let tally = wire::swarm(4, until, move |worker, call| {
        let (target, mallory, calls) = (Arc::clone(&target), Arc::clone(&mallory), Arc::clone(&calls));
        async move {
            let (nsid, body) = &calls[call % calls.len()];
            let body = serde_json::to_vec(body).ok()?;
            // At a pace that no budget refuses.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let reply = target.call(worker, nsid, "", Some(mallory.token(nsid)), Some(body)).await?;
            Some(reply.status)
        }
    })
    .await;
    ensure!(tally.of(500) == 0, "an internal error: {tally}");
    ensure!(tally.of(400) > 0 && tally.of(200) == 0, "a character that cannot be stored was taken: {tally}");
    Ok(tally.to_string())
}
