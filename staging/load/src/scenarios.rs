//! The scenarios: who sends where, and who listens.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rookery::types::Did;
use rookery_testkit::{Person, open_folder};

use crate::Run;
use crate::bare::Ceiling;
use crate::listeners::{self, Listening, SOCKETS_PER_DEVICE, SentAt};
use crate::report::Row;
use crate::senders::{Sender, Sent, Until, send};
use crate::stage::{Postgres, Stage};
use crate::{bare_fan_out, statements, usage};

/// Time for which the senders send before the measurement begins, so that pools, caches and plans are filled.
const WARM_UP: Duration = Duration::from_secs(2);
/// Sockets that listen to one conversation, and the pause between its messages.
const LISTENERS: usize = 300;
const PACE: Duration = Duration::from_millis(50);
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// Conversations of each device with idle sockets.
const SEATS: usize = 5;
/// How long opened sockets get until they are live and the server's memory is settled.
const SETTLES: Duration = Duration::from_secs(3);
/// Accounts in one claim of key packages.
const TARGETS: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// One sender, whose every message is the first of its conversation since the server started.
    FirstTouch,
    /// One sender, one conversation.
    SingleSender,
    /// Many senders, in turns over many conversations.
    ManyConversations,
    /// Many senders, all in one conversation.
    HotConversation,
    /// One sender, at a steady pace; 300 sockets of 60 members listen. A unit is a delivery.
    FanOut,
    /// Sockets of devices that are seated in five conversations each, in which nothing happens. A unit is a socket.
    IdleSockets,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario::FirstTouch,
    Scenario::SingleSender,
    Scenario::ManyConversations,
    Scenario::HotConversation,
    Scenario::FanOut,
    Scenario::IdleSockets,
];

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Self::FirstTouch => "first-touch",
            Self::SingleSender => "single-sender",
            Self::ManyConversations => "many-conversations",
            Self::HotConversation => "hot-conversation",
            Self::FanOut => "fan-out",
            Self::IdleSockets => "idle-sockets",
        }
    }

    pub async fn run(self, run: &Run, postgres: &Postgres) -> anyhow::Result<Row> {
        let database = postgres.database(&self.name().replace('-', "_")).await?;
        let stage = Stage::start(&run.program(), database).await?;
        let senders = match self {
            Self::FirstTouch => spread(&stage, 1, run.conversations).await?,
            Self::SingleSender => spread(&stage, 1, 1).await?,
            Self::ManyConversations => spread(&stage, run.senders, run.conversations).await?,
            Self::HotConversation => crowd(&stage, run.senders).await?,
            Self::FanOut => return self.fan_out(run, stage, postgres).await,
            Self::IdleSockets => return self.idle(run, stage, postgres).await,
        };
        if self == Self::FirstTouch {
            return self.measured(stage, postgres, &senders, Until::OneEach, None).await;
        }
        let ceiling = ceiling(run, postgres, &stage, &senders).await?;
        send(&senders, Until::Time(WARM_UP)).await?;
        self.measured(stage, postgres, &senders, Until::Time(run.duration()), Some(ceiling)).await
    }

    async fn measured(
        self,
        stage: Stage,
        postgres: &Postgres,
        senders: &[Arc<Sender>],
        until: Until,
        ceiling: Option<f64>,
    ) -> anyhow::Result<Row> {
        let meter = Meter::begin(&stage, postgres).await?;
        let sent = send(senders, until).await?;
        let row = meter.row(self, senders.len(), sent).await?;
        stage.stop().await?;
        Ok(Row { ceiling, ..row })
    }

    async fn fan_out(self, run: &Run, stage: Stage, postgres: &Postgres) -> anyhow::Result<Row> {
        let members = crowd(&stage, LISTENERS.div_ceil(SOCKETS_PER_DEVICE)).await?;
        let people: Vec<Arc<Person>> = members.iter().map(|member| Arc::clone(member.person())).collect();
        let mut listening = Listening::begin(listeners::open(&people, LISTENERS).await?);
        // A socket that is open may still be reading the past.
        tokio::time::sleep(SETTLES).await;
        let sender = members.first().context("a conversation without a member")?;
        let (sent_at, mut sent) = (SentAt::default(), 0);
        let meter = Meter::begin(&stage, postgres).await?;
        let (began, mut pace) = (Instant::now(), tokio::time::interval(PACE));
        while began.elapsed() < run.duration() {
            pace.tick().await;
            let at = Instant::now();
            let seq = sender.send(0).await?.seq;
            sent_at.lock().unwrap_or_else(PoisonError::into_inner).insert(seq, at);
            sent += 1;
        }
        let latencies = listening.delays(sent * LISTENERS, &sent_at, ARRIVES_WITHIN).await?;
        let row = meter.row(self, LISTENERS, Sent { latencies, lasted: began.elapsed() }).await?;
        listening.stop().await;
        stage.stop().await?;
        let bare = bare_fan_out::measure(LISTENERS, PACE, run.duration()).await.context("the ceiling")?;
        Ok(row.beside_cpu_time(bare))
    }

    async fn idle(self, run: &Run, stage: Stage, postgres: &Postgres) -> anyhow::Result<Row> {
        let people = run.sockets.div_ceil(SOCKETS_PER_DEVICE);
        let devices = spread(&stage, people, people * SEATS).await?;
        let people: Vec<Arc<Person>> = devices.iter().map(|device| Arc::clone(device.person())).collect();
        let memory = usage::resident(stage.pid()?)?;
        let (meter, began) = (Meter::begin(&stage, postgres).await?, Instant::now());
        let feeds = listeners::open(&people, run.sockets).await?;
        let sent = Sent { latencies: vec![began.elapsed(); feeds.len()], lasted: began.elapsed() };
        let listening = Listening::begin(feeds);
        let row = meter.row(self, run.sockets, sent).await?;
        tokio::time::sleep(SETTLES).await;
        let more = usage::resident(stage.pid()?)?.saturating_sub(memory);
        listening.stop().await;
        stage.stop().await?;
        #[expect(clippy::cast_precision_loss, reason = "bytes and sockets of one run are far below 2^52")]
        let memory = Some(more as f64 / run.sockets as f64);
        Ok(Row { memory, latencies: Vec::new(), ..row })
    }
}

/// What the server and Postgres had used when a measurement began.
struct Meter {
    database: String,
    counts: bool,
    pids: (u32, u32),
    used: (Duration, Duration),
}

impl Meter {
    async fn begin(stage: &Stage, postgres: &Postgres) -> anyhow::Result<Self> {
        let (database, pids) = (stage.database.clone(), (stage.pid()?, postgres.pid()));
        let counts = statements::begin(&database).await?;
        Ok(Self { database, counts, pids, used: Self::used(pids)? })
    }

    fn used((server, postgres): (u32, u32)) -> anyhow::Result<(Duration, Duration)> {
        Ok((usage::of_process(server)?, usage::of_family(postgres)?))
    }

    async fn row(self, scenario: Scenario, clients: usize, sent: Sent) -> anyhow::Result<Row> {
        let used = Self::used(self.pids)?;
        let counts = if self.counts { Some(statements::counted(&self.database).await?) } else { None };
        Ok(Row {
            scenario: scenario.name(),
            clients,
            units: sent.latencies.len(),
            lasted: sent.lasted,
            latencies: sent.latencies,
            server: used.0.saturating_sub(self.used.0),
            postgres: used.1.saturating_sub(self.used.1),
            counts,
            ceiling: None,
            memory: None,
        })
    }
}

/// The rate of the ceiling with these senders, in messages a second.
async fn ceiling(run: &Run, postgres: &Postgres, stage: &Stage, senders: &[Arc<Sender>]) -> anyhow::Result<f64> {
    let (database, folder) = (postgres.database("bare").await?, open_folder());
    let key = |sender: &Arc<Sender>| {
        let person = sender.person();
        (person.device().to_string(), hex::encode(person.keys().key().raw()))
    };
    let keys: HashMap<String, String> = senders.iter().map(key).collect();
    let ceiling = Ceiling::start(&database, folder.path(), &stage.service, &keys).await?;
    let theirs: Vec<Arc<Sender>> =
        senders.iter().map(|sender| Arc::new(sender.at(Arc::clone(&ceiling.service)))).collect();
    send(&theirs, Until::Time(WARM_UP)).await.context("the ceiling")?;
    let sent = send(&theirs, Until::Time(run.duration())).await.context("the ceiling")?;
    ceiling.stop().await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of one run is far below 2^52")]
    let sent_in_all = sent.latencies.len() as f64;
    Ok(sent_in_all / sent.lasted.as_secs_f64())
}

/// People, each alone in conversations of their own.
async fn spread(stage: &Stage, people: usize, conversations: usize) -> anyhow::Result<Vec<Arc<Sender>>> {
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
async fn crowd(stage: &Stage, people: usize) -> anyhow::Result<Vec<Arc<Sender>>> {
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
