//! The honest client beside an attack: two members of a conversation, and a prober.
//!
//! Invariant: every call counts, a failed call as slower than any limit; whatever the server acknowledged must be readable
//! at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rookery::lexicon::mls::get_messages::{self, GetMessages};
use rookery::lexicon::mls::send_message::SendMessage;
use rookery_client::CallError;
use rookery_testkit::Person;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::target::Target;

/// Between two rounds of a message and its reading.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at the server's readiness.
const LOOK: Duration = Duration::from_millis(100);
/// How long a prober waits for an answer, as a load balancer does.
const PROBE: Duration = Duration::from_secs(2);
/// What a failed call counts as.
const FAILED: Duration = Duration::from_mins(1);

/// What the honest client met.
#[derive(Debug, Default)]
pub struct Experience {
    /// The time of each call, of failed ones [`FAILED`].
    calls: Vec<Duration>,
    /// The longest time until an answer, an answer of failure included.
    pub slowest: Duration,
    /// How often which failure came.
    pub failures: BTreeMap<String, usize>,
    pub longest_unready: Duration,
    /// When the server last said that it is ready.
    pub ready_at: Option<Instant>,
}

impl Experience {
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The time within which so many of a hundred calls were answered.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut calls = self.calls.clone();
        calls.sort_unstable();
        let rank = (calls.len() * percent).div_ceil(100);
        calls.get(rank.saturating_sub(1)).copied().unwrap_or(FAILED)
    }
}

pub struct Honest {
    alice: Arc<Person>,
    bob: Arc<Person>,
    stream: String,
    /// Messages that were acknowledged.
    sent: Mutex<u64>,
    read: Mutex<Reading>,
    experience: Mutex<Experience>,
    ended: AtomicBool,
    ready_url: String,
}

#[derive(Default)]
struct Reading {
    after: u64,
    messages: u64,
}

impl Honest {
    /// Two people in a conversation of their own, while nobody attacks yet.
    pub async fn prepare(target: &Target) -> anyhow::Result<Arc<Self>> {
        let (alice, bob) = (target.person("alice").await?, target.person("bob").await?);
        let stream = alice.create_convo().await?;
        alice.add_members(&stream, std::slice::from_ref(bob.did())).await?;
        bob.arrive(&stream).await?;
        let impatient = target.impatient()?;
        let (alice, bob) = (Arc::new(alice.at(Arc::clone(&impatient))), Arc::new(bob.at(impatient)));
        Ok(Arc::new(Self {
            alice,
            bob,
            stream,
            sent: Mutex::default(),
            read: Mutex::default(),
            experience: Mutex::default(),
            ended: AtomicBool::new(false),
            ready_url: format!("{}/health/ready", target.url()),
        }))
    }

    /// Calls and looks until [`Self::end`].
    pub fn begin(self: &Arc<Self>) -> [JoinHandle<()>; 2] {
        let (caller, prober) = (Arc::clone(self), Arc::clone(self));
        [tokio::spawn(async move { caller.talk().await }), tokio::spawn(async move { prober.probe().await })]
    }

    async fn talk(&self) {
        while !self.ended.load(Ordering::SeqCst) {
            if let Ok(draft) = self.alice.draft_message(&self.stream, b"beside an attack").await {
                let began = Instant::now();
                let answer = self.alice.procedure::<SendMessage>(&draft).await;
                if self.count(began, answer.err()).await {
                    *self.sent.lock().await += 1;
                }
            }
            self.read().await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One page; whether it came and held anything.
    async fn read(&self) -> bool {
        let mut reading = self.read.lock().await;
        let params = get_messages::Params {
            stream: self.stream.clone(),
            after_seq: Some(reading.after),
            before_seq: None,
            kinds: None,
            limit: 50,
        };
        let began = Instant::now();
        match self.bob.query::<GetMessages>(&params).await {
            Ok(page) => {
                for entry in &page.entries {
                    reading.after = reading.after.max(entry.seq);
                    reading.messages += u64::from(entry.kind == "#message");
                }
                let found = !page.entries.is_empty();
                self.count(began, None).await;
                found
            }
            Err(error) => {
                self.count(began, Some(error)).await;
                false
            }
        }
    }

    /// Counts a call; whether it went well.
    async fn count(&self, began: Instant, error: Option<CallError>) -> bool {
        let (took, went_well) = (began.elapsed(), error.is_none());
        let mut experience = self.experience.lock().await;
        experience.slowest = experience.slowest.max(took);
        experience.calls.push(if went_well { took } else { FAILED });
        if let Some(error) = error {
            let name = match error.refused() {
                Some(refused) => format!("{} {}", refused.status, refused.error),
                None => "no answer".to_owned(),
            };
            *experience.failures.entry(name).or_default() += 1;
        }
        went_well
    }

    async fn probe(&self) {
        let mut last = Instant::now();
        while !self.ended.load(Ordering::SeqCst) {
            let is_ready = crate::wire::get(&self.ready_url, PROBE).await.is_some_and(|status| status == 200);
            let mut experience = self.experience.lock().await;
            if is_ready {
                experience.ready_at = Some(Instant::now());
            }
            experience.longest_unready = experience.longest_unready.max(last.elapsed());
            if is_ready {
                last = Instant::now();
            }
            drop(experience);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// When the server said that it is ready, after this moment and within so long; None if it did not.
    pub async fn ready_after(&self, moment: Instant, within: Duration) -> Option<Duration> {
        loop {
            let ready_at = self.experience.lock().await.ready_at;
            if let Some(after) = ready_at.and_then(|at| at.checked_duration_since(moment)) {
                return Some(after);
            }
            if moment.elapsed() > within {
                return None;
            }
            tokio::time::sleep(LOOK / 2).await;
        }
    }

    /// Ends, after whatever was acknowledged was read.
    pub async fn end(&self, tasks: [JoinHandle<()>; 2]) -> anyhow::Result<Experience> {
        self.ended.store(true, Ordering::SeqCst);
        for task in tasks {
            task.await.context("the honest client broke")?;
        }
        let experience = std::mem::take(&mut *self.experience.lock().await);
        let until = Instant::now() + Duration::from_secs(20);
        let sent = *self.sent.lock().await;
        while self.read.lock().await.messages < sent && Instant::now() < until {
            if !self.read().await {
                tokio::time::sleep(PAUSE).await;
            }
        }
        let read = self.read.lock().await.messages;
        ensure!(read >= sent, "{sent} messages were acknowledged, and {read} could be read");
        Ok(experience)
    }
}
