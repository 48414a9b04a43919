//! Devices that send one message after the other, without a pause.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::future::try_join_all;
use rookery::lexicon::mls::send_message::{Input, Output, SendMessage};
use rookery_testkit::{Person, idem};

/// Bytes of plaintext, with which a ciphertext has about 512 bytes.
const PLAINTEXT: usize = 330;

/// A device, and an encrypted message for each of its conversations. The server cannot tell a ciphertext that is sent
/// again under a new idempotency key from a new one, so the clients' encryption is not part of the measurement.
pub struct Sender {
    person: Arc<Person>,
    drafts: Vec<Input>,
}

impl Sender {
    pub async fn prepare(person: Arc<Person>, streams: &[String]) -> anyhow::Result<Self> {
        Self::prepare_long(person, streams, PLAINTEXT).await
    }

    /// With messages of so many bytes of plaintext.
    pub async fn prepare_long(person: Arc<Person>, streams: &[String], bytes: usize) -> anyhow::Result<Self> {
        let plaintext = vec![0x61; bytes];
        let mut drafts = Vec::with_capacity(streams.len());
        for stream in streams {
            drafts.push(person.draft_message(stream, &plaintext).await?);
        }
        Ok(Self { person, drafts })
    }

    pub fn person(&self) -> &Arc<Person> {
        &self.person
    }

    /// The first of its conversations.
    pub fn stream(&self) -> Option<&str> {
        self.drafts.first().map(|draft| draft.stream.as_str())
    }

    /// A sender for this device and its messages that calls another server.
    pub fn at(&self, service: Arc<rookery_client::Service>) -> Self {
        Self { person: Arc::new(self.person.at(service)), drafts: self.drafts.clone() }
    }

    /// Sends the message of the conversation with that number.
    pub async fn send(&self, number: usize) -> anyhow::Result<Output> {
        let draft = &self.drafts[number % self.drafts.len()];
        let input = Input { idem: idem(), ..draft.clone() };
        Ok(self.person.procedure::<SendMessage>(&input).await?)
    }
}

/// How long the senders send.
#[derive(Clone, Copy)]
pub enum Until {
    Time(Duration),
    /// Each conversation of each sender gets one message.
    OneEach,
}

/// What the senders did.
pub struct Sent {
    /// In ascending order.
    pub latencies: Vec<Duration>,
    pub lasted: Duration,
}

/// All senders send at one time.
pub async fn send(senders: &[Arc<Sender>], until: Until) -> anyhow::Result<Sent> {
    let began = Instant::now();
    let sending = senders.iter().map(|sender| {
        let sender = Arc::clone(sender);
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            let goes_on = |sent: usize| match until {
                Until::Time(time) => began.elapsed() < time,
                Until::OneEach => sent < sender.drafts.len(),
            };
            while goes_on(latencies.len()) {
                let at = Instant::now();
                sender.send(latencies.len()).await?;
                latencies.push(at.elapsed());
            }
            Ok::<_, anyhow::Error>(latencies)
        })
    });
    let mut latencies = Vec::new();
    for sent in try_join_all(sending).await.context("a sender broke")? {
        latencies.extend(sent?);
    }
    latencies.sort_unstable();
    Ok(Sent { latencies, lasted: began.elapsed() })
}
