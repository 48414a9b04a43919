//! Pings that interrupt the backfill of a subscription.
//!
//! Sockets with cursor 0 of a long conversation send pings without a pause. The bound: a ping neither drops nor repeats the
//! query that reads the next page, and a socket's pings are bounded.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::Attack;
use super::filling::conversation;
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("ping_flood", |target| Box::pin(run(target)));

const SOCKETS: u16 = 8;
const MESSAGES: [usize; 2] = [1500, 200];
const NSID: &str = "blue.catbird.event.subscribe";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let (_, people) = conversation(&target, messages, 1000).await?;
    let people = Arc::new(people);
    let until = target.begins();
    let tally = wire::swarm(SOCKETS, until, move |worker, _| {
        let (target, people) = (Arc::clone(&target), Arc::clone(&people));
        async move {
            let token = people[usize::from(worker % 2)].token(NSID);
            let tcp = target.connect(worker).await.ok()?;
            let url = format!("ws://{}/xrpc/{NSID}?cursor=0", target.address);
            let mut request = url.into_client_request().ok()?;
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().ok()?);
            let (socket, _) = client_async(request, tcp).await.ok()?;
            let (mut sends, mut hears) = socket.split();
            let mut pings = 0;
            while Instant::now() < until {
                if sends.send(Message::Ping(vec![0; 6].into())).await.is_err() {
                    break;
                }
                pings += 1;
                // What comes is read now and then, so that the connection lives.
                if pings % 64 == 0 {
                    let heard = tokio::time::timeout(std::time::Duration::from_millis(1), hears.next()).await;
                    if matches!(heard, Ok(None | Some(Err(_)))) {
                        break;
                    }
                }
            }
            Some(200)
        }
    })
    .await;
    ensure!(tally.of(200) > 0, "no socket was opened: {tally}");
    Ok(format!("{messages} messages; sockets: {tally}"))
}
