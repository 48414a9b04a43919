//! People who send all the time, whatever happens to their servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Person;
use rookery_client::ClientError;
use tokio::task::JoinHandle;

/// Once nothing is broken any more, every sender gets an answer within this time.
const GOES_ON: Duration = Duration::from_secs(40);
/// Somebody whose server has not heard of the newest epochs yet.
const BEHIND: Duration = Duration::from_millis(100);

/// The seq and the hash of each message that its sender was told.
pub type Receipts = Vec<(u64, Vec<u8>)>;

/// What all senders share.
pub struct Load {
    /// Messages that each sender was answered.
    acknowledged: Vec<AtomicUsize>,
    ended: AtomicBool,
}

impl Load {
    pub fn new(senders: usize) -> Arc<Self> {
        let acknowledged = (0..senders).map(|_| AtomicUsize::new(0)).collect();
        Arc::new(Self { acknowledged, ended: AtomicBool::new(false) })
    }

    fn acknowledged(&self) -> Vec<usize> {
        self.acknowledged.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }

    /// Waits until every sender was answered once more: whatever is broken is broken under load, and nobody is cut off
    /// for ever by bad luck.
    pub async fn goes_on(&self) {
        let (before, until) = (self.acknowledged(), Instant::now() + GOES_ON);
        while self.acknowledged().iter().zip(&before).any(|(now, before)| now == before) {
            assert!(Instant::now() < until, "a sender was not answered for {} s", GOES_ON.as_secs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Each of these people sends one message after the other, with a pause between; each is repeated with its own name
    /// until it is acknowledged. Their receipts come when `end` is called.
    pub fn begin(self: &Arc<Self>, people: &[Arc<Person>], stream: &str, pause: Duration) -> Vec<JoinHandle<Receipts>> {
        let senders = people.iter().enumerate().map(|(number, person)| {
            let (load, person, stream) = (Arc::clone(self), Arc::clone(person), stream.to_owned());
            tokio::spawn(async move {
                let mut receipts = Vec::new();
                while !load.has_ended() {
                    match person.send(&stream, b"under load").await {
                        Ok(sent) => receipts.push((sent.seq, sent.hash.0)),
                        // Its epoch is too old, which was never taken, and its server knows no newer one.
                        Err(ClientError::Outrun(_)) => {
                            tokio::time::sleep(BEHIND).await;
                            continue;
                        }
                        Err(error) => panic!("{}: {error}", person.name()),
                    }
                    load.acknowledged[number].fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(pause).await;
                }
                receipts
            })
        });
        senders.collect()
    }

    pub fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}
