//! Pages of a conversation that is full of messages of the greatest size.
//!
//! Sixteen readers ask for pages of 100 entries of `getMessages` and `listEvents` at once. The bound: a page ends before 4
//! MiB of content (8 MiB as JSON), with one entry at least, and an account has few calls in flight.

use std::sync::Arc;

use anyhow::ensure;

use super::Attack;
use super::filling::{PLAINTEXT, conversation};
use crate::target::Target;
use crate::wire;

pub const ATTACK: Attack = Attack::new("fat_pages", |target| Box::pin(run(target)));

const READERS: u16 = 16;
const MESSAGES: [usize; 2] = [100, 20];
const PAGE_BYTES: usize = 8 * 1024 * 1024;
const MESSAGES_OF: &str = "blue.catbird.mls.getMessages";
const LIST: &str = "blue.catbird.event.listEvents";

async fn run(target: Arc<Target>) -> anyhow::Result<String> {
    let messages = MESSAGES[usize::from(target.lasts.as_secs() < 10)];
    let (stream, people) = conversation(&target, messages, PLAINTEXT).await?;
    let people = Arc::new(people);
    let until = target.begins();
    let tally = wire::swarm(READERS, until, move |worker, call| {
        let (target, people, stream) = (Arc::clone(&target), Arc::clone(&people), stream.clone());
        async move {
            let person = &people[usize::from(worker % 2)];
            let (nsid, query) = match call % 2 {
                0 => (LIST, "?limit=100".to_owned()),
                _ => (MESSAGES_OF, format!("?stream={stream}&limit=100")),
            };
            let reply = target.call(worker, nsid, &query, Some(person.token(nsid)), None).await?;
            Some(if reply.body.len() > PAGE_BYTES { 299 } else { reply.status })
        }
    })
    .await;
    ensure!(tally.of(299) == 0, "a page has more than {PAGE_BYTES} bytes: {tally}");
    ensure!(tally.of(200) > 0, "no page was read: {tally}");
    Ok(format!("{messages} messages of {PLAINTEXT} bytes; {tally}"))
}
