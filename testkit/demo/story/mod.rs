//! The story: who meets, what is said, what breaks, and whether everybody heard what they should and nothing else.

mod cast;
mod federated;
mod ledger;
mod moving;
mod pairing;
mod refusals;
mod storm;
mod verdict;

use std::sync::Arc;

use anyhow::{Context, ensure};

use crate::process::Process;
use crate::transcript::Transcript;
use cast::{Cast, Player};
use ledger::{Change, Convo, Difference, Message};
use rookery::identity::Curve;
use rookery::types::Did;
use rookery_client::{Committed, Service};
use rookery_testkit::Person;
use rookery_testkit::{Directory, Form, Identity};

/// One-time key packages that everybody publishes, beside one of last resort.
const KEY_PACKAGES: usize = 12;

/// The people who talk; alice also owns a second device, and mallory is a stranger.
const PEOPLE: [(&str, Curve, Form); 7] = [
    ("alice", Curve::P256, Form::Multikey),
    ("grace", Curve::K256, Form::Older),
    ("heidi", Curve::P256, Form::Older),
    ("dave", Curve::K256, Form::Multikey),
    ("erin", Curve::K256, Form::Older),
    ("frank", Curve::P256, Form::Older),
    ("mallory", Curve::P256, Form::Multikey),
];
/// Whose DID is a did:web.
const ON_THE_WEB: &str = "erin";

/// The server on which all but the federated acts play.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

const VILLAGE: usize = 0;
const STUDY: usize = 1;
const PAIR: usize = 2;
/// The one across servers.
const BRIDGE: usize = 3;
/// Who lives on the other servers, and how many devices they have.
const ELSEWHERE: (usize, usize) = (2, 3);

/// What came out.
pub(crate) struct Outcome {
    pub clients: usize,
    pub accounts: usize,
    pub chains_equal: bool,
    pub conversations: usize,
    pub messages_sent: usize,
    pub messages_decrypted: usize,
    pub commits: usize,
    pub restarts: u32,
    pub difference: Difference,
    pub refused_as_expected: u32,
}

/// Everything that the acts share.
struct Stage<'a> {
    transcript: &'a Transcript,
    /// Of server a, as other servers reach it.
    origin: String,
    service: Arc<Service>,
    cast: Cast,
    convos: Vec<Convo>,
    refused: u32,
    restarts: u32,
}

pub(crate) async fn tell(
    transcript: &Transcript,
    directory: &Directory,
    servers: &mut [Process],
    messages: u32,
) -> anyhow::Result<Outcome> {
    transcript.act("Starting three servers, each with a private Postgres, and a DID directory");
    let starting = servers.iter_mut().map(async |server| Ok((server.start().await?, &*server)));
    for (took, server) in futures_util::future::try_join_all(starting).await.map_err(|error: anyhow::Error| error)? {
        let (name, took, did) = (server.name, took.as_secs_f64(), server.way.did());
        transcript.say(format_args!("{name} is ready after {took:.1} s: {did}"));
    }
    let process = &servers[A];
    let service = Arc::new(Service::new(&process.url(), Did::parse(&process.way.did())?)?);
    let (cast, convos) = (Cast::default(), Vec::new());
    let origin = process.way.origin();
    let mut stage = Stage { transcript, origin, service, cast, convos, refused: 0, restarts: 0 };

    let second = stage.people(directory).await?;
    stage.conversations().await?;
    stage.refusals(&second).await?;
    stage.pairing(second).await?;
    stage.race().await?;
    stage.storm(&mut servers[A], messages).await?;
    stage.farewell().await?;
    stage.federated(directory, servers).await?;
    let (messages_decrypted, difference) = stage.verdict().await?;
    let chains_equal = stage.chains_equal().await?;

    Ok(Outcome {
        clients: PEOPLE.len() + 1 + ELSEWHERE.1,
        accounts: PEOPLE.len() + ELSEWHERE.0,
        chains_equal,
        conversations: stage.convos.len(),
        messages_sent: stage.convos.iter().map(|convo| convo.messages.len()).sum(),
        messages_decrypted,
        commits: stage.convos.iter().map(|convo| convo.changes.len()).sum(),
        restarts: stage.restarts,
        difference,
        refused_as_expected: stage.refused,
    })
}

impl Stage<'_> {
    /// Everybody registers a device and publishes key packages. Answers alice's second device.
    async fn people(&mut self, directory: &Directory) -> anyhow::Result<Person> {
        self.transcript.act("Registering devices");
        for (name, curve, form) in PEOPLE {
            let identity = match name {
                ON_THE_WEB => directory.web_identity(curve, form)?,
                _ => Identity::plc(curve, form)?,
            };
            directory.add_at(&identity, &self.origin);
            let kind = format!("did:{}, {curve:?}, {form:?}", identity.did.method());
            let person = Person::new(name, Arc::new(identity), Arc::clone(&self.service))?;
            let registered = person.register().await.with_context(|| format!("{name} registers"))?;
            ensure!(registered.state == "certified", "{name}'s first device is {}", registered.state);
            person.publish(KEY_PACKAGES, true).await.with_context(|| format!("{name} publishes key packages"))?;
            self.cast.enter(person);
            self.transcript
                .say(format_args!("{name} ({kind}) is here, with {KEY_PACKAGES} key packages + last resort"));
        }
        let account = Arc::clone(self.player("alice")?.person.account());
        let second = Person::new("alice's tablet", account, Arc::clone(&self.service))?;
        let registered = second.register().await.context("alice's tablet registers")?;
        ensure!(registered.state == "uncertified", "alice's second device is {}", registered.state);
        self.transcript.say("alice's tablet is registered, and waits to be certified");
        Ok(second)
    }

    /// Three conversations of six, four and two members, with something said at each step.
    async fn conversations(&mut self) -> anyhow::Result<()> {
        self.transcript.act("Founding conversations");
        for (title, founder) in [("village", "alice"), ("study", "grace"), ("pair", "dave")] {
            let stream = self.player(founder)?.person.create_convo().await?;
            self.convos.push(Convo::new(title, stream, founder));
            self.transcript.say(format_args!("{founder} founds the {title}"));
            self.send(self.convos.len() - 1, founder, "alone in here").await?;
        }
        self.add(VILLAGE, "alice", &["grace", "heidi"]).await?;
        self.send(VILLAGE, "grace", "good morning").await?;
        self.add(VILLAGE, "heidi", &["dave"]).await?;
        self.send(VILLAGE, "dave", "thanks for having me").await?;
        self.add(VILLAGE, "alice", &["erin", "frank"]).await?;
        self.send(VILLAGE, "erin", "hello from did:web").await?;
        self.add(STUDY, "grace", &["alice"]).await?;
        self.send(STUDY, "alice", "shall we begin?").await?;
        self.add(STUDY, "grace", &["heidi", "erin"]).await?;
        self.send(STUDY, "heidi", "chapter one").await?;
        self.add(PAIR, "dave", &["frank"]).await?;
        self.send(PAIR, "frank", "just us two").await?;
        self.everybody_heard().await
    }

    /// Two members commit in the same epoch: one wins, the other takes that in and commits again.
    async fn race(&mut self) -> anyhow::Result<()> {
        self.transcript.act("Two commits at once");
        let stream = self.convos[STUDY].stream.clone();
        let (grace, heidi) = (self.player("grace")?.clone(), self.player("heidi")?.clone());
        let (dave, erin) = (self.did("dave")?, self.did("erin")?);
        let claimed = heidi.person.claim(&stream, &[dave]).await?;
        let (removes, none) = ([erin], []);
        let (removed, added) =
            tokio::join!(grace.person.change(&stream, &[], &removes), heidi.person.change(&stream, &claimed, &none),);
        let (removed, added) = (removed.context("grace removes erin")?, added.context("heidi adds dave")?);
        self.record(STUDY, &removed, &[], &["erin"]);
        self.record(STUDY, &added, &["dave"], &[]);
        ensure!(
            (removed.attempts, added.attempts) == (1, 2) || (removed.attempts, added.attempts) == (2, 1),
            "both commits went through at once: {} and {} attempts",
            removed.attempts,
            added.attempts
        );
        self.refused += 1;
        let (winner, loser) = if removed.attempts == 1 { ("grace", "heidi") } else { ("heidi", "grace") };
        self.transcript.say(format_args!(
            "study: grace removes erin while heidi adds dave; {winner} wins, {loser} is told StaleEpoch, catches up and \
             commits again"
        ));
        self.everybody_heard().await?;
        self.erin_is_out().await
    }

    /// After the crash: one more message from everybody, so that every group is shown to work.
    async fn farewell(&mut self) -> anyhow::Result<()> {
        self.transcript.act("After the crash");
        for convo in 0..self.convos.len() {
            let members = self.convos[convo].members();
            for name in &members {
                self.send(convo, name, "still here").await?;
            }
            let names: Vec<&str> = members.iter().map(String::as_str).collect();
            self.transcript.say(format_args!("{}: {} say goodbye", self.convos[convo].title, names.join(", ")));
        }
        self.everybody_heard().await
    }

    // ---- what the acts are made of ----

    fn player(&self, name: &str) -> anyhow::Result<&Player> {
        self.cast.get(name)
    }

    fn did(&self, name: &str) -> anyhow::Result<Did> {
        Ok(self.player(name)?.person.did().clone())
    }

    fn dids(&self, names: &[&str]) -> anyhow::Result<Vec<Did>> {
        names.iter().map(|name| self.did(name)).collect()
    }

    async fn add(&mut self, convo: usize, by: &str, names: &[&str]) -> anyhow::Result<()> {
        let (stream, dids) = (self.convos[convo].stream.clone(), self.dids(names)?);
        self.in_epoch(convo, by).await?;
        let committed = self.player(by)?.person.add_members(&stream, &dids).await;
        let committed = committed.with_context(|| format!("{by} adds {}", names.join(" and ")))?;
        self.record(convo, &committed, names, &[]);
        let (title, epoch) = (&self.convos[convo].title, committed.epoch);
        self.transcript.say(format_args!("{title}: {by} adds {} (epoch {epoch})", names.join(" and ")));
        Ok(())
    }

    async fn remove(&mut self, convo: usize, by: &str, names: &[&str]) -> anyhow::Result<()> {
        let (stream, dids) = (self.convos[convo].stream.clone(), self.dids(names)?);
        self.in_epoch(convo, by).await?;
        let committed = self.player(by)?.person.remove_members(&stream, &dids).await;
        let committed = committed.with_context(|| format!("{by} removes {}", names.join(" and ")))?;
        self.record(convo, &committed, &[], names);
        let (title, epoch) = (&self.convos[convo].title, committed.epoch);
        self.transcript.say(format_args!("{title}: {by} removes {} (epoch {epoch})", names.join(" and ")));
        Ok(())
    }

    fn record(&mut self, convo: usize, committed: &Committed, adds: &[&str], removes: &[&str]) {
        let names = |names: &[&str]| names.iter().flat_map(|name| self.cast.devices_of(name)).collect();
        let change = Change { seq: committed.seq, epoch: committed.epoch, adds: names(adds), removes: names(removes) };
        self.convos[convo].changes.push(change);
    }

    async fn send(&mut self, convo: usize, by: &str, text: &str) -> anyhow::Result<()> {
        self.in_epoch(convo, by).await?;
        let text = format!("{} {by}: {text}", self.convos[convo].messages.len());
        let message = say(self.player(by)?, &self.convos[convo].stream, text).await?;
        self.convos[convo].messages.push(message);
        Ok(())
    }

    /// Waits until the person has taken in the newest commit, as somebody does who has the conversation on the screen.
    async fn in_epoch(&self, convo: usize, name: &str) -> anyhow::Result<()> {
        let convo = &self.convos[convo];
        let newest = convo.changes.iter().map(|change| change.seq).max().unwrap_or(0);
        let what = format!("{name} hears of the newest commit in the {}", convo.title);
        self.transcript.step(&what);
        let player = self.player(name)?.clone();
        self.cast.until(&what, |_| player.diary().last_seq(&convo.stream) >= newest).await
    }

    /// Waits until everybody has received all that was said and done.
    async fn everybody_heard(&self) -> anyhow::Result<()> {
        for convo in &self.convos {
            let head = self.player(&convo.founder)?.person.convo(&convo.stream).await?.head.seq;
            for player in self.cast.all() {
                let name = player.person.name();
                let Some(&last) = convo.entries_for(&player.account, head).last() else { continue };
                let what = format!("{name} hears entry {last} of the {}", convo.title);
                self.transcript.step(&what);
                self.cast.until(&what, |_| player.diary().last_seq(&convo.stream) >= last).await?;
            }
        }
        Ok(())
    }
}

/// Sends one text.
async fn say(player: &Player, stream: &str, text: String) -> anyhow::Result<Message> {
    let by = player.person.name().to_owned();
    let sent = player.person.send(stream, text.as_bytes()).await.with_context(|| format!("{by} sends"))?;
    Ok(Message { seq: sent.seq, epoch: sent.epoch, by, text })
}
