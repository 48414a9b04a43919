//! Everybody talks at once, members come and go, and in the middle of it the server is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::cast::Player;
use super::ledger::Message;
use super::{PAIR, Process, STUDY, Stage, VILLAGE, say};

/// Pause of each speaker after each message.
const BREATH: Duration = Duration::from_millis(15);
/// How long the server stays away.
const AWAY: Duration = Duration::from_millis(400);
/// How long it may take until the next part of the messages is sent.
const PART: Duration = Duration::from_mins(1);

/// Who talks all the time, and stays: others come and go meanwhile.
const SPEAKERS: [(usize, &str); 9] = [
    (VILLAGE, "alice"),
    (VILLAGE, "grace"),
    (VILLAGE, "dave"),
    (VILLAGE, "erin"),
    (STUDY, "alice"),
    (STUDY, "grace"),
    (STUDY, "heidi"),
    (PAIR, "dave"),
    (PAIR, "frank"),
];

/// Messages begun and messages acknowledged, counted by all speakers together.
#[derive(Default)]
struct Count {
    begun: AtomicU32,
    acknowledged: AtomicU32,
}

impl Stage<'_> {
    pub(super) async fn storm(&mut self, process: &mut Process, messages: u32) -> anyhow::Result<()> {
        self.transcript.act("Everybody talks while members come and go");
        let count = Arc::new(Count::default());
        let mut speakers = JoinSet::new();
        for (convo, name) in SPEAKERS {
            let (player, stream) = (self.player(name)?.clone(), self.convos[convo].stream.clone());
            let count = Arc::clone(&count);
            speakers.spawn(async move {
                let mut said: Vec<Message> = Vec::new();
                while count.begun.fetch_add(1, Ordering::SeqCst) < messages {
                    let text = format!("storm {} {}: so be it", said.len(), player.person.name());
                    said.push(say(&player, &stream, text).await?);
                    count.acknowledged.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(BREATH).await;
                }
                anyhow::Ok((convo, said))
            });
        }

        self.part(&count, messages, 1, 6).await?;
        self.remove(VILLAGE, "alice", &["frank"]).await?;
        self.part(&count, messages, 2, 6).await?;
        self.remove(VILLAGE, "alice", &["heidi"]).await?;
        self.add(PAIR, "frank", &["alice"]).await?;

        self.part(&count, messages, 3, 6).await?;
        self.crash(process).await?;

        self.part(&count, messages, 4, 6).await?;
        self.remove(PAIR, "dave", &["alice"]).await?;
        self.remove(STUDY, "grace", &["dave"]).await?;
        self.part(&count, messages, 5, 6).await?;
        self.add(VILLAGE, "grace", &["heidi"]).await?;
        self.add(STUDY, "alice", &["frank"]).await?;

        self.transcript.step("sending the last messages");
        while let Some(said) = speakers.join_next().await {
            let (convo, said) = said.context("a speaker stopped")??;
            self.convos[convo].messages.extend(said);
        }
        self.transcript.say(format_args!("all {messages} messages are acknowledged"));
        self.everybody_heard().await
    }

    /// Waits until this part of the messages is acknowledged.
    async fn part(&self, count: &Count, messages: u32, part: u32, of: u32) -> anyhow::Result<()> {
        self.transcript.step(&format!("sending part {part} of {of} of the messages"));
        let (goal, until) = (messages * part / of, Instant::now() + PART);
        while count.acknowledged.load(Ordering::SeqCst) < goal {
            self.cast.check()?;
            if Instant::now() >= until {
                bail!("{} of {messages} messages are acknowledged", count.acknowledged.load(Ordering::SeqCst));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let decrypted: usize =
            self.cast.all().map(|player| player.diary().texts.values().map(Vec::len).sum::<usize>()).sum();
        self.transcript.say(format_args!("{goal:>4} of {messages} messages sent, {decrypted} decrypted so far"));
        Ok(())
    }

    /// kill -9, with calls under way and Postgres left behind; then the same folder, the same port.
    async fn crash(&mut self, process: &mut Process) -> anyhow::Result<()> {
        self.transcript.step("killing the server");
        let (alice, frank) = (self.player("alice")?.clone(), self.did("frank")?);
        let (stream, before) = (self.convos[VILLAGE].stream.clone(), self.service.repeats());
        let connections: Vec<u32> = self.cast.all().map(Player::connections).collect();

        // A commit is on its way when it happens, and is finished by the repeats of its calls.
        let adding = tokio::spawn(async move { alice.person.add_members(&stream, &[frank]).await });
        process.kill().await?;
        self.transcript.say("kill -9: the server is gone, its Postgres is orphaned, everybody goes on trying");
        tokio::time::sleep(AWAY).await;
        self.transcript.step("starting the server again");
        let took = process.start().await?;
        self.restarts += 1;
        self.transcript.say(format_args!("the same folder, the same port: ready after {:.1} s", took.as_secs_f64()));

        self.transcript.step("alice's commit going through");
        let committed = adding.await?.context("alice adds frank through the crash")?;
        self.record(VILLAGE, &committed, &["frank"], &[]);
        self.transcript.say(format_args!("village: alice's commit that was under way adds frank again"));
        let back = |(player, before): (&Player, &u32)| player.connections() > *before;
        self.cast.until("everybody's socket is back", |cast| cast.all().zip(&connections).all(back)).await?;
        let repeats = self.service.repeats() - before;
        ensure!(repeats > 0, "no call was under way when the server was killed");
        self.transcript.say(format_args!(
            "every socket resumed by cursor; {repeats} calls without an answer were repeated with the same idem"
        ));
        Ok(())
    }
}
