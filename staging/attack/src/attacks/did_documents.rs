//! DID documents of 500 kB and of 60 kB, as many as the budgets let in.
//!
//! Each call comes from an account that was never seen, whose document is as large as the server reads. The bound: a document
//! has its greatest size, the server keeps only the parts that it uses, and the cache of documents counts bytes.

use std::sync::Arc;

use anyhow::ensure;
use rookery::identity::Curve;
use rookery::types::Clock;
use rookery_testkit::{Form, Identity};

use super::Attack;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("did_documents", |target| Box::pin(run(target)));

const WORKERS: u16 = 12;
const ADDRESSES: u16 = 40;
const NSID: &str = "blue.catbird.account.listDevices";
/// Above the greatest document that the server reads, and just below.
const SIZES: [usize; 2] = [500_000, 58_000];

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let until = target.begins();
    let tally = wire::swarm(WORKERS, until, move |worker, call| {
        let target = Arc::clone(&target);
        async move {
            let account = Identity::plc(Curve::K256, Form::Multikey).ok()?;
            target.directory.add_padded(&account, SIZES[call % SIZES.len()]);
            let token = account.service_token(target.did.as_str(), NSID, Clock::System.now());
            let from = (worker * 7 + u16::try_from(call % 997).unwrap_or_default()) % ADDRESSES;
            Some(target.call(from, NSID, "", Some(token), None).await?.status)
        }
    })
    .await;
    ensure!(tally.calls() > 5 && tally.of(500) == 0, "{tally}");
    Ok(tally.to_string())
}
