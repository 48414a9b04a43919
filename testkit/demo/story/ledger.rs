//! What should have happened, from those who did it: the judge of what the server delivered.
//!
//! Invariant: nothing in here comes from what was received. Who may read what follows from the receipts of commits and
//! messages alone.

use std::collections::{BTreeMap, BTreeSet};

/// A commit that was taken, by names.
#[derive(Clone, Debug)]
pub struct Change {
    pub seq: u64,
    /// The epoch that it made.
    pub epoch: u64,
    pub adds: Vec<String>,
    pub removes: Vec<String>,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Message {
    pub seq: u64,
    /// The epoch in which it was encrypted.
    pub epoch: u64,
    pub by: String,
    pub text: String,
}

/// A span of entries that somebody's seat covers, both ends included, and the epoch in which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: u64,
    pub epoch: u64,
    pub until: Option<u64>,
}

impl Window {
    /// Entries up to `head` that it covers.
    fn entries(self, head: u64) -> std::ops::RangeInclusive<u64> {
        self.from..=self.until.unwrap_or(head)
    }
}

/// One conversation.
#[derive(Clone, Debug)]
pub struct Convo {
    pub title: String,
    pub stream: String,
    pub founder: String,
    pub changes: Vec<Change>,
    pub messages: Vec<Message>,
}

impl Convo {
    pub fn new(title: &str, stream: String, founder: &str) -> Self {
        let (title, founder) = (title.to_owned(), founder.to_owned());
        Self { title, stream, founder, changes: Vec::new(), messages: Vec::new() }
    }

    /// When `name` was in it.
    pub fn windows(&self, name: &str) -> Vec<Window> {
        let mut windows = Vec::new();
        if self.founder == name {
            windows.push(Window { from: 1, epoch: 0, until: None });
        }
        let mut changes: Vec<&Change> = self.changes.iter().collect();
        changes.sort_by_key(|change| change.seq);
        for change in changes {
            if change.adds.iter().any(|added| added == name) {
                windows.push(Window { from: change.seq, epoch: change.epoch, until: None });
            }
            if change.removes.iter().any(|removed| removed == name)
                && let Some(last) = windows.last_mut()
            {
                last.until = Some(change.seq);
            }
        }
        windows
    }

    pub fn is_in(&self, name: &str) -> bool {
        self.windows(name).last().is_some_and(|window| window.until.is_none())
    }

    /// Whoever is in it now.
    pub fn members(&self) -> BTreeSet<String> {
        let added = self.changes.iter().flat_map(|change| change.adds.iter());
        added.chain([&self.founder]).filter(|name| self.is_in(name)).cloned().collect()
    }

    /// The numbers of the entries that `name` must have received, given that the stream ends at `head`.
    pub fn entries_for(&self, name: &str, head: u64) -> BTreeSet<u64> {
        self.windows(name).into_iter().flat_map(|window| window.entries(head)).collect()
    }

    /// What `name` must have decrypted, and nothing else: others' messages of its time, of epochs that it was part of.
    pub fn texts_for(&self, name: &str) -> BTreeMap<u64, &str> {
        let windows = self.windows(name);
        let readable = |message: &&Message| {
            message.by != name
                && windows.iter().any(|window| {
                    let until = window.until.unwrap_or(u64::MAX);
                    window.from < message.seq && message.seq < until && window.epoch <= message.epoch
                })
        };
        self.messages.iter().filter(readable).map(|message| (message.seq, message.text.as_str())).collect()
    }
}

/// How what was received differs from what should have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub missing: usize,
    pub repeated: usize,
    /// Received, and should not have been.
    pub leaked: usize,
}

impl Difference {
    /// `received` as it came: a key twice is a repeat.
    pub fn of<K: Ord>(expected: &BTreeSet<K>, received: impl IntoIterator<Item = K>) -> Self {
        let (mut seen, mut difference) = (BTreeSet::new(), Self::default());
        for key in received {
            if !expected.contains(&key) {
                difference.leaked += 1;
            } else if !seen.insert(key) {
                difference.repeated += 1;
            }
        }
        difference.missing = expected.len() - seen.len();
        difference
    }

    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Difference {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.leaked += other.leaked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(seq: u64, epoch: u64, adds: &[&str], removes: &[&str]) -> Change {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Change { seq, epoch, adds: names(adds), removes: names(removes) }
    }

    fn convo() -> Convo {
        let mut convo = Convo::new("test", "s".into(), "alice");
        // The order in which receipts come in is not the order of the log.
        convo.changes =
            vec![change(8, 2, &[], &["bob"]), change(4, 1, &["bob"], &[]), change(12, 3, &["bob", "carol"], &[])];
        let message = |seq, epoch, by: &str| Message { seq, epoch, by: by.into(), text: format!("{by} {seq}") };
        convo.messages = vec![
            message(3, 0, "alice"),
            message(5, 0, "alice"),
            message(6, 1, "bob"),
            message(7, 1, "alice"),
            message(9, 2, "alice"),
            message(13, 2, "alice"),
            message(14, 3, "alice"),
        ];
        convo
    }

    #[test]
    fn a_member_reads_what_was_encrypted_and_ordered_while_it_was_there() {
        let convo = convo();
        let seqs = |name: &str| convo.texts_for(name).into_keys().collect::<Vec<_>>();
        assert_eq!(seqs("bob"), [7, 14], "neither epochs from before, nor its own, nor what came after it left");
        assert_eq!(seqs("carol"), [14]);
        assert_eq!(seqs("alice"), [6]);
        assert!(seqs("mallory").is_empty());
    }

    #[test]
    fn a_seat_covers_the_commits_at_both_its_ends() {
        let convo = convo();
        let seqs = |name: &str| convo.entries_for(name, 15).into_iter().collect::<Vec<_>>();
        assert_eq!(seqs("bob"), [4, 5, 6, 7, 8, 12, 13, 14, 15]);
        assert_eq!(seqs("carol"), [12, 13, 14, 15]);
        assert_eq!(convo.members().into_iter().collect::<Vec<_>>(), ["alice", "bob", "carol"]);
    }

    #[test]
    fn every_way_to_differ_is_counted() {
        let expected = BTreeSet::from([1, 2, 3]);
        assert!(Difference::of(&expected, [3, 1, 2]).is_none());
        let difference = Difference::of(&expected, [1, 1, 9]);
        assert_eq!(difference, Difference { missing: 2, repeated: 1, leaked: 1 });
    }
}
