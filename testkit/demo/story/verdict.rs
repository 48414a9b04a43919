//! Whether everybody has what they should have, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};

use super::cast::{Diary, Player};
use super::ledger::{Convo, Difference};
use super::{BRIDGE, Stage};
use rookery::lexicon::event::defs::Entry;

impl Stage<'_> {
    /// How many messages were decrypted, and that nothing is lost, repeated or leaked.
    pub(super) async fn verdict(&mut self) -> anyhow::Result<(usize, Difference)> {
        self.transcript.act("Comparing");
        self.cast.check()?;
        let (mut decrypted, mut difference) = (0, Difference::default());
        for convo in &self.convos {
            self.transcript.step(&format!("comparing the {}", convo.title));
            let log = self.player(&convo.founder)?.person.entries(&convo.stream, 0).await?;
            judge_log(convo, &log)?;
            let mut texts = 0;
            for player in self.cast.all() {
                let (name, diary) = (player.person.name(), player.diary());
                let (entries, read) = judge_diary(convo, &log, player, &diary)?;
                ensure!(entries.is_none(), "{}: {name} received other entries than due: {entries:?}", convo.title);
                ensure!(read.is_none(), "{}: {name} decrypted other messages than due: {read:?}", convo.title);
                texts += diary.texts.get(&convo.stream).map_or(0, Vec::len);
                difference += entries;
                difference += read;
            }
            self.same_epoch(convo).await?;
            decrypted += texts;
            let (head, members) = (log.last().context("an empty log")?, convo.members().len());
            self.transcript.say(format_args!(
                "{}: {} messages sent, {texts} decrypted; {members} members agree on entry {} and on epoch secrets",
                convo.title,
                convo.messages.len(),
                head.seq
            ));
        }
        let known: BTreeSet<&str> = self.convos.iter().map(|convo| convo.stream.as_str()).collect();
        let strangers = self.player("mallory")?.diary().entries.keys().any(|stream| known.contains(stream.as_str()));
        ensure!(!strangers, "mallory's socket brought something of a conversation");
        let before: usize = self.cast.all().map(|player| player.diary().before_me).sum();
        self.transcript.say(format_args!(
            "nothing lost, repeated or leaked; {before} messages reached somebody too new to open them, and stayed closed"
        ));
        Ok((decrypted, difference))
    }

    /// Whether everybody in the conversation across servers was shown the same hash at the same number, each by its own
    /// server.
    pub(super) async fn chains_equal(&self) -> anyhow::Result<bool> {
        let convo = &self.convos[BRIDGE];
        self.transcript.step("comparing the chains of three servers");
        let log = self.player(&convo.founder)?.person.entries(&convo.stream, 0).await?;
        let head = log.last().context("an empty log")?.seq;
        let mut compared = 0;
        for name in convo.members() {
            let player = self.player(&name)?;
            let due = convo.entries_for(&player.account, head);
            let held = player.person.entries(&convo.stream, 0).await?;
            let of = |entries: &[Entry]| {
                let covered = entries.iter().filter(|entry| due.contains(&entry.seq));
                covered.map(|entry| (entry.seq, entry.term, entry.hash.clone())).collect::<Vec<_>>()
            };
            if of(&held) != of(&log) {
                return Ok(false);
            }
            compared += held.len();
        }
        self.transcript.say(format_args!("bridge: three servers hold one chain ({compared} entries compared)"));
        Ok(true)
    }

    /// All members are in one epoch, with the same secrets.
    async fn same_epoch(&self, convo: &Convo) -> anyhow::Result<()> {
        let mut epochs = BTreeSet::new();
        for name in convo.members() {
            epochs.insert(self.player(&name)?.person.epoch(&convo.stream).await?);
        }
        ensure!(epochs.len() == 1, "{}: the members are in {} different epochs", convo.title, epochs.len());
        let made = convo.changes.iter().map(|change| change.epoch).max().unwrap_or(0);
        ensure!(epochs.first().is_some_and(|(epoch, _)| *epoch == made), "{}: not in epoch {made}", convo.title);
        Ok(())
    }
}

/// The log holds what was acknowledged, each once, where the receipt said, and no message more.
fn judge_log(convo: &Convo, log: &[Entry]) -> anyhow::Result<()> {
    let dense = log.iter().map(|entry| entry.seq).eq(1..=log.len() as u64);
    ensure!(dense, "{}: the numbers of its entries have gaps", convo.title);
    let of_kind = |kind: &str| log.iter().filter(|entry| entry.kind == kind).map(|entry| entry.seq).collect();
    let (messages, commits): (BTreeSet<u64>, BTreeSet<u64>) = (of_kind("#message"), of_kind("#commit"));
    let sent: Vec<u64> = convo.messages.iter().map(|message| message.seq).collect();
    let changed: Vec<u64> = convo.changes.iter().map(|change| change.seq).collect();
    let (sent, changed) = (Difference::of(&messages, sent), Difference::of(&commits, changed));
    ensure!(sent.is_none(), "{}: the log's messages are not those that were acknowledged: {sent:?}", convo.title);
    ensure!(changed.is_none(), "{}: the log's commits are not those that were acknowledged: {changed:?}", convo.title);
    Ok(())
}

/// What somebody's socket brought, and what somebody decrypted, beside what was due.
fn judge_diary(
    convo: &Convo,
    log: &[Entry],
    player: &Player,
    diary: &Diary,
) -> anyhow::Result<(Difference, Difference)> {
    let name = player.person.name();
    let hashes: BTreeMap<u64, &[u8]> = log.iter().map(|entry| (entry.seq, entry.hash.as_slice())).collect();
    let none = Vec::new();
    let received = diary.entries.get(&convo.stream).unwrap_or(&none);
    let same = received.iter().all(|(seq, hash)| hashes.get(seq) == Some(&hash.as_slice()));
    ensure!(same, "{}: {name} has other hashes than the log", convo.title);
    // Entries are for the account's seat, contents for the device's leaf.
    let due = convo.entries_for(&player.account, log.len() as u64);
    let entries = Difference::of(&due, received.iter().map(|(seq, _)| *seq));

    let due: BTreeSet<(u64, &str)> = convo.texts_for(name).into_iter().collect();
    let texts = diary.texts.get(&convo.stream).into_iter().flatten().map(|(seq, text)| (*seq, text.as_str()));
    Ok((entries, Difference::of(&due, texts)))
}
