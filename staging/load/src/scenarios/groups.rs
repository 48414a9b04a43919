//! Groups of devices: each alone in conversations, all in one conversation, or seated in a conversation by SQL.

use std::sync::Arc;

use anyhow::Context;
use rookery::types::Did;
use rookery_testkit::Person;

use crate::seed::Seed;
use crate::senders::Sender;
use crate::stage::Stage;

/// Accounts in one claim of key packages.
const TARGETS: usize = 20;

/// People, each alone in conversations of their own.
pub async fn spread(stage: &Stage, people: usize, conversations: usize) -> anyhow::Result<Vec<Arc<Sender>>> {
    let mut senders = Vec::with_capacity(people);
    for number in 0..people {
        let person = stage.person(&format!("sender {number}")).await?;
        let mut streams = Vec::new();
        for _ in 0..conversations.div_ceil(people) {
            streams.push(person.create_convo().await?);
        }
        senders.push(Arc::new(Sender::prepare(person, &streams).await?));
    }
    Ok(senders)
}

/// People who are all in one conversation.
pub async fn crowd(stage: &Stage, people: usize) -> anyhow::Result<Vec<Arc<Sender>>> {
    let mut members: Vec<Arc<Person>> = Vec::with_capacity(people);
    for number in 0..people {
        members.push(stage.person(&format!("member {number}")).await?);
    }
    let [founder, others @ ..] = &members[..] else { anyhow::bail!("a conversation needs a member") };
    let stream = founder.create_convo().await?;
    let others_dids: Vec<Did> = others.iter().map(|person| person.did().clone()).collect();
    for targets in others_dids.chunks(TARGETS) {
        founder.add_members(&stream, targets).await?;
    }
    for person in others {
        person.arrive(&stream).await?;
    }
    let mut senders = Vec::with_capacity(people);
    for person in members {
        senders.push(Arc::new(Sender::prepare(person, std::slice::from_ref(&stream)).await?));
    }
    Ok(senders)
}

/// A conversation in which a sender is the only member of the MLS group, and accounts that SQL seated there listen.
pub struct Hall {
    pub stream: String,
    pub sender: Sender,
    pub listeners: Vec<Arc<Person>>,
}

impl Hall {
    /// Another conversation of the sender, in which SQL seats these accounts; messages of so many bytes of plaintext.
    pub async fn beside(&self, stage: &Stage, people: &[Arc<Person>], bytes: usize) -> anyhow::Result<Sender> {
        let founder = Arc::clone(self.sender.person());
        let stream = founder.create_convo().await?;
        seat(stage, &stream, people).await?;
        Sender::prepare_long(founder, &[stream], bytes).await
    }

    /// A hall with so many listening accounts of one device each.
    pub async fn open(stage: &Stage, listeners: usize) -> anyhow::Result<Self> {
        let founder = stage.people(1).await?.pop().context("no founder")?;
        let stream = founder.create_convo().await?;
        let listeners = stage.people(listeners).await?;
        seat(stage, &stream, &listeners).await?;
        let sender = Sender::prepare(founder, std::slice::from_ref(&stream)).await?;
        Ok(Self { stream, sender, listeners })
    }
}

async fn seat(stage: &Stage, stream: &str, people: &[Arc<Person>]) -> anyhow::Result<()> {
    let seats: Vec<(&str, &Did)> = people.iter().map(|person| (stream, person.did())).collect();
    Seed::at(&stage.database).await?.seats(&seats).await
}
