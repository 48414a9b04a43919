//! Bodies that never come to their end, with an `Upgrade` header.
//!
//! 400 anonymous connections announce a body of 256 KiB with a header that once switched the deadline of requests off, send
//! all but a byte, and go on in drops. The bound: `REQUEST_TIMEOUT_MS` ends every request that is no subscription, and the
//! bytes of bodies that are not whole stay within their budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::{Attack, waves};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("slow_bodies", |target| Box::pin(run(target)))
    .with(&[("REQUEST_TIMEOUT_MS", "2000"), ("HEADER_TIMEOUT_MS", "3000")]);

const CONNECTIONS: u16 = 400;
const ADDRESSES: u16 = 8;
const BODY: usize = 262_144;
/// The deadline of the request, that of the next head, and what a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(12);

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let ended = waves::all_end(&target, CONNECTIONS, |target, number| async move {
        let head = wire::post("blue.catbird.account.createPairing", None, BODY, "upgrade: x\r\n");
        let mut tcp = target.connect(number % ADDRESSES).await.ok()?;
        tcp.write_all(&[head, vec![b' '; BODY - 1]].concat()).await.ok();
        // The last byte would complete the body.
        Some(wire::is_closed_by(&mut tcp, Instant::now() + PATIENCE).await)
    });
    Ok(format!("{} connections with a body that does not end, all closed", ended.await?))
}
