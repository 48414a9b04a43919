//! A home that a test writes with its own hands: a chain of entries, of any kind.

use std::collections::BTreeSet;

use rookery::identity::Signed;
use rookery::log::acceptance::Acceptance;
use rookery::log::body::{Body, HomeChangedBody};
use rookery::log::chain::{Content, Genesis, Head, Header, entry_hash};
use rookery::log::{EntryKind, Held, Span, StreamKind};
use rookery::types::{Bytes, Clock, Did, Hash, Seq, StreamId, UnixMillis};

/// What the home calls itself.
pub const HOME: &str = "did:web:home.test";
pub const MINUTE_MS: i64 = 60_000;

/// A home, as its followers see it.
pub struct FakeHome {
    pub genesis: Vec<u8>,
    pub head: Head,
    pub entries: Vec<Held>,
}

impl FakeHome {
    pub fn new() -> Self {
        let now = UnixMillis(Clock::System.now().0 - MINUTE_MS);
        let genesis = Genesis::new(StreamKind::Convo, HOME, now);
        let term = genesis.term();
        let genesis = genesis.encode().unwrap();
        let stream = StreamId::of_genesis(&genesis);
        let head = Head { stream, term, seq: Seq(0), hash: Hash::ZERO, time: now };
        let mut home = Self { genesis: genesis.clone(), head, entries: Vec::new() };
        home.order(EntryKind::Opened, genesis);
        home
    }

    /// Hands the stream to another home, which accepts it as of that entry.
    pub fn hand(&mut self, to: &str, accepted: Seq) {
        let head = Head { seq: accepted, ..self.head.clone() };
        let late = UnixMillis(self.head.time.0 + MINUTE_MS);
        let acceptance = Acceptance::new(&did(HOME), &did(to), &head, Hash([7; 32]), late).statement().unwrap();
        let signed =
            Signed { statement: Bytes(acceptance), key: "#checkpoint-any".to_owned(), sig: Bytes(vec![0; 64]) };
        let body = HomeChangedBody { to: did(to), term: self.head.term.next(), acceptance: signed };
        self.order(EntryKind::HomeChanged, body.encode().unwrap());
    }

    /// The head of a stream that ends with this entry.
    pub fn after(entry: &Held) -> Head {
        let Header { stream, term, seq, time, .. } = Header::decode(&entry.header).unwrap();
        Head { stream, term, seq, hash: entry_hash(&entry.header), time }
    }

    pub fn order(&mut self, kind: EntryKind, body: Vec<u8>) {
        let now = self.head.time;
        self.order_at(now, kind, body);
    }

    pub fn order_at(&mut self, now: UnixMillis, kind: EntryKind, body: Vec<u8>) {
        let sealed = self.head.seal(kind, None, &Content::new(body, None), now).unwrap();
        self.entries.push(Held { header: sealed.header, content: Some(sealed.content) });
    }

    /// An entry of any kind, as a later version makes it.
    pub fn order_named(&mut self, kind: &str, requires: Option<&str>, body: Vec<u8>) {
        let (now, content) = (self.head.time, Content::new(body, None));
        let sealed = self.head.seal_named(kind, requires, None, &content, now).unwrap();
        self.entries.push(Held { header: sealed.header, content: Some(sealed.content) });
    }

    pub fn message(&mut self) {
        self.order(EntryKind::Message, b"opaque".to_vec());
    }

    /// From entry `from` to entry `until`, both included.
    pub fn span(&self, from: usize, until: usize) -> Span {
        let entries = self.entries[from - 1..until].to_vec();
        let (home, genesis) = (did(HOME), self.genesis.clone());
        Span { home, genesis, anchor: None, entries, erased: BTreeSet::new(), checkpoint: None }
    }

    pub fn all(&self) -> Span {
        self.span(1, self.entries.len())
    }
}

pub fn did(text: &str) -> Did {
    Did::parse(text).unwrap()
}
