//! Servers that take connections and never answer.
//!
//! 100 listeners accept and say nothing. An account names them as homes of its seats, and tokens name them as issuers. The
//! bound: requests that wait for one server delay only requests to that server, the number of slots and the time of each
//! outbound call are bounded, and calls of people do not wait for them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::ensure;
use rookery::identity::{Curve, SigningKey, service_token};
use rookery::types::{Clock, Did};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Attack;
use super::imported_homes::homes;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack =
    Attack::new("stalling_peers", |target| Box::pin(run(target))).with(&[("FEDERATION", "open")]);

const LISTENERS: usize = 100;
const WORKERS: u16 = 16;
const IMPORT: &str = "blue.catbird.account.importData";
const LIST: &str = "blue.catbird.account.listDevices";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let (mut listening, mut names) = (JoinSet::new(), Vec::new());
    for _ in 0..LISTENERS {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        names.push(format!("did:web:localhost%3A{}", listener.local_addr()?.port()));
        listening.spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = listener.accept().await {
                held.push(connection);
            }
        });
    }
    let (names, key) = (Arc::new(names), Arc::new(SigningKey::generate(Curve::K256)));
    let mallory = target.person("mallory").await?;
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let (target, mallory, names, key) =
            (Arc::clone(&target), Arc::clone(&mallory), Arc::clone(&names), Arc::clone(&key));
        async move {
            let reply = if worker % 2 == 0 {
                let body = serde_json::to_vec(&homes(|number| names[number % LISTENERS].clone())).ok()?;
                target.call(worker, IMPORT, "", Some(mallory.token(IMPORT)), Some(body)).await?
            } else {
                let issuer = Did::parse(&names[(call * 7 + usize::from(worker)) % LISTENERS]).ok()?;
                let token = service_token(&key, &issuer, target.did.as_str(), LIST, Clock::System.now());
                target.call(worker, LIST, "", Some(token), None).await?
            };
            Some(reply.status)
        }
    })
    .await;
    ensure!(tally.calls() >= usize::from(WORKERS), "only {tally}");
    Ok(tally.to_string())
}
